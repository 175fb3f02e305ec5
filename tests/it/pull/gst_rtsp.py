"""An RTSP server: GStreamer's, playing one file to whoever asks, or may. Prints its port.

Arguments: the file, how many of its audio tracks, its picture's codec, a port (0 for any), user and password or nothing.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

file, sounds, codec, port, *login = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( filesrc location={file} ! qtdemux name=d "
    f"d.video_0 ! queue ! {codec}parse ! rtp{codec}pay name=pay0 pt=96 config-interval=-1 "
    + "".join(f"d.audio_{n} ! queue ! aacparse ! rtpmp4gpay name=pay{n + 1} pt={n + 97} " for n in range(int(sounds)))
    + ")"
)
if login:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    viewer = GstRtspServer.RTSPToken()
    viewer.set_string("media.factory.role", "viewer")
    auth.add_digest(login[0], login[1], viewer)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
