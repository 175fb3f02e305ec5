"""An RTSP server: GStreamer's, playing one file, with all of its sound, to whoever asks. Prints its port."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
sounds = int(sys.argv[2]) if len(sys.argv) > 2 else 1
factory.set_launch(
    f"( filesrc location={sys.argv[1]} ! qtdemux name=d "
    "d.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 "
    + "".join(f"d.audio_{n} ! queue ! aacparse ! rtpmp4gpay name=pay{n + 1} pt={n + 97} " for n in range(sounds))
    + ")"
)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
