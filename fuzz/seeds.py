#!/usr/bin/env python3
"""Writes seeds for the fuzz targets that read media: what ffmpeg makes, in the form that each target reads.

    fuzz/seeds.py FOLDER      one folder per target in FOLDER, one file per seed
"""

import pathlib
import struct
import subprocess
import sys

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "fuzz/corpus")
SOURCES = "-f lavfi -i testsrc2=s=64x48:r=10:d=0.6 -f lavfi -i sine=440:r=44100:d=0.6"
ENCODERS = {
    "baseline": "-c:v libx264 -preset ultrafast -profile:v baseline -g 3 -c:a aac -b:a 24k",
    "high": "-c:v libx264 -preset veryfast -bf 2 -g 5 -c:a aac -b:a 24k -ar 48000",
    "interlaced": "-c:v libx264 -preset veryfast -flags +ildct+ilme -vf setsar=4/3 -c:a aac -b:a 24k -ac 1",
    "intra-refresh": "-c:v libx264 -preset veryfast -x264-params intra-refresh=1:keyint=5 -c:a aac -b:a 24k",
}


def seed(target, name, data):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def ffmpeg(options, form):
    command = f"ffmpeg -v error -nostdin {SOURCES} {options} -f {form} -".split()
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def flv_tags(data):
    """(type, timestamp, body) of each tag."""
    at = 13
    while at + 11 <= len(data):
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        yield kind, time, data[at + 11 : at + 11 + size]
        at += 11 + size + 4


def chunks(stream, kind, time, body, size, extended=False):
    """One RTMP message in chunks."""
    head = bytes([stream]) + (b"\xff\xff\xff" if extended else time.to_bytes(3, "big"))
    head += len(body).to_bytes(3, "big") + bytes([kind]) + struct.pack("<I", 1)
    late = struct.pack(">I", time) if extended else b""
    pieces = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    return head + late + (bytes([0xC0 | stream]) + late).join(pieces)


def text(value):
    return b"\x02" + struct.pack(">H", len(value)) + value


def number(value):
    return b"\x00" + struct.pack(">d", value)


def properties(**values):
    return b"".join(struct.pack(">H", len(k)) + k.encode() + v for k, v in values.items()) + b"\0\0\x09"


def commands():
    connect = text(b"connect") + number(1) + b"\x03" + properties(app=text(b"live"), flashVer=text(b"FMLE/3.0"))
    publish = text(b"publish") + number(5) + b"\x05" + text(b"sk_live_key") + text(b"live")
    meta = text(b"@setDataFrame") + text(b"onMetaData") + b"\x08\0\0\0\2" + properties(width=number(64), stereo=b"\1\1")
    strict = text(b"x") + number(0) + b"\x0a\0\0\0\3" + b"\x05" + b"\x0a\0\0\0\1\x05" + number(2)
    return [(3, 20, connect), (3, 20, publish), (4, 18, meta), (3, 17, b"\0" + publish), (3, 20, strict)]


def whip_frames(avcc, length, units):
    """The same pictures as WebRTC has them, with sound and reports in between."""
    start = b"\0\0\0\1"
    second = int.from_bytes(avcc[9 + length : 11 + length], "big")
    sets = start + avcc[8 : 8 + length] + start + avcc[11 + length : 11 + length + second]
    frame = lambda kind, step, body: struct.pack(">BBH", kind, step, len(body)) + body
    frames = b""
    for at, unit in enumerate(units):
        nals, rest = b"", unit[5:]
        while rest:
            size = int.from_bytes(rest[:4], "big")
            # What the encoder says of itself takes more room than the pictures.
            nals += start + rest[4 : 4 + size] if rest[4] & 31 != 6 else b""
            rest = rest[4 + size :]
        frames += frame(4 if at == 2 else 0, 33, (sets if at == 0 else b"") + nals[:800])
        frames += frame(6 if at == 2 else 2, 0, bytes([0xFC, at]))
    return frames + frame(1, 33, bytes([0x10, 2, 0, 0x9D, 1, 0x2A, 160, 0, 90, 0])) + frame(1, 33, b"\x11\x02")


def media_seeds():
    for name, options in ENCODERS.items():
        tags = [tag for tag in flv_tags(ffmpeg(options, "flv")) if tag[0] in (8, 9)]
        record = lambda kind, time, body: struct.pack(">BIH", kind & 1, time, len(body)) + body
        seed("flv_tags", name, b"".join(record(*tag) for tag in tags)[:6000])
        seed("flv_tags", name + "-wraps", b"".join(record(k, t + 0xFFFFFF00 & 0xFFFFFFFF, b) for k, t, b in tags)[:3000])
        stream = chunks(2, 1, 0, struct.pack(">I", 4096), 128)
        short = b""
        for at, (kind, time, body) in enumerate(tags[:6]):
            stream += chunks(4 if kind == 8 else 6, kind, time, body[:2000], 4096, extended=at == 3)
            short += chunks(4 if kind == 8 else 6, kind, time, body[:200], 128, extended=at == 3)
        opening = b"".join(chunks(s, k, 0, body, 128) for s, k, body in commands())
        seed("rtmp_chunks", name, b"\x11" + opening + stream)
        seed("rtmp_chunks", name + "-short", b"\x03" + short)
        video = [body for kind, _, body in tags if kind == 9]
        audio = [body for kind, _, body in tags if kind == 8]
        avcc, asc = video[0][5:], audio[0][2:]
        length = int.from_bytes(avcc[6:8], "big")
        seed("sps", name, avcc[8 : 8 + length])
        seed("whip_frames", name, whip_frames(avcc, length, video[1:5]))
        seed("decoder_config", name, b"\0" + avcc)
        seed("decoder_config", name + "-sound", b"\1" + struct.pack(">IH", 44100, 2) + asc)
        for at, body in enumerate(video[1:4]):
            seed("access_unit", f"{name}-{at}", b"\6" + body[5:][:1500])
        times = b""
        for kind, time, body in tags:
            composition = int.from_bytes(body[2:5], "big", signed=True) if kind == 9 else 0
            times += struct.pack(">BIi", kind & 1, time, composition)
        seed("timeline", name, times)
        seed("timeline", name + "-jump", times + times[9:].replace(b"\0\0\0", b"\0\x10\0", 9))
    for s, (stream, kind, body) in enumerate(commands()):
        seed("rtmp_chunks", f"command-{s}", b"\1" + chunks(stream, kind, 0, body, 128))
        seed("rtmp_commands", f"command-{s}", bytes([{18: 0, 20: 1, 15: 2, 17: 3}[kind]]) + body)


def hevc_seeds():
    quiet = "-c:v libx265 -preset ultrafast -x265-params log-level=none -an"
    data = ffmpeg(f"{quiet} -tag:v hvc1 -movflags frag_keyframe+empty_moov", "mp4")
    at = data.index(b"hvcC")
    size = int.from_bytes(data[at - 4 : at], "big")
    seed("decoder_config", "hevc", b"\2" + data[at + 4 : at - 4 + size])
    at = data.index(b"mdat")
    seed("access_unit", "hevc", b"\7" + data[at + 4 :][:1500])


def enhanced_seeds():
    """Tags of Enhanced RTMP and MP3, and the records and access units in them."""
    sets = b"".join(bytes([0x80 | kind, 0, 1, 0, 3, kind << 1, 1, 0xAA]) for kind in (32, 33, 34))
    hvcc = b"\1" + bytes(20) + b"\x0f\3" + sets
    av1c = bytes.fromhex("81000c000a0a00000003b4ff736be401")
    vpcc = bytes([1, 0, 0, 0, 0, 10, 0x82, 1, 1, 1, 0, 0])
    head = b"OpusHead\1\2\x38\1" + struct.pack("<IHB", 48000, 0, 0)
    dops = bytes([0, 2, 1, 0x38]) + struct.pack(">IHB", 48000, 0, 0)
    mp3 = bytes([0xFF, 0xFB, 0x90, 0]) + bytes(range(20))
    vp9 = bytes.fromhex("824983424013f00b30") + bytes(range(20))
    vp8 = bytes.fromhex("1002009d012aa0007800") + bytes(range(20))
    av1 = b"\x12\0" + av1c[4:] + b"\x32\2\x10\0"
    tag = lambda kind, time, body: struct.pack(">BIH", kind, time, len(body)) + body
    tracks = lambda data: b"\3\0\0\2\1\2" + b"\0" + len(data).to_bytes(3, "big") + data
    pictures = {b"hvc1": (hvcc, b"\0\0\0\3\x26\1\xaa"), b"av01": (av1c, av1), b"vp09": (vpcc, vp9), b"vp08": (vpcc[4:], vp8)}
    for name, (record, unit) in pictures.items():
        log = tag(1, 0, b"\x90" + name + record) + tag(1, 40, b"\x93" + name + unit)
        log += tag(1, 80, b"\x97\2\5\x16\x15\3" + name + unit) + tag(1, 120, b"\xa1" + name + b"\0\0\x28" + unit)
        log += tag(1, 160, b"\x96\x13" + name + tracks(unit)) + tag(1, 200, b"\x92" + name)
        seed("flv_tags", "enhanced-" + name.decode(), log)
    sound = tag(0, 0, b"\x90Opus" + head) + tag(0, 20, b"\x91Opus\xf8\1") + tag(0, 40, b"\x95\x11Opus" + tracks(b"\xf8\2"))
    sound += tag(0, 60, b"\x90mp4a\x11\x90") + tag(0, 80, b"\x91mp4a\1\2") + tag(0, 99, b"\x91.mp3" + mp3) + tag(0, 125, b"\x2f" + mp3)
    seed("flv_tags", "enhanced-sound", sound)
    second = tag(2, 0, b"\x95\0Opus\1" + head) + tag(0, 20, b"\x95\1Opus\1\xf8\1") + tag(0, 40, b"\x95\x21Opus" + b"\1\0\0\1\xf8")
    seed("flv_tags", "second-track", second)
    for kind, (name, record) in enumerate([("av1c", av1c), ("vp9", vpcc), ("vp8", vpcc)], 2):
        seed("decoder_config", name, bytes([kind << 1]) + record)
    seed("decoder_config", "opus", b"\3" + struct.pack(">IH", 48000, 2) + dops)
    seed("decoder_config", "opus-surround", b"\3" + struct.pack(">IH", 48000, 6) + b"\0\6" + dops[2:10] + bytes([1, 4, 2, 0, 4, 1, 2, 3, 5]))
    seed("decoder_config", "mp3", b"\5" + struct.pack(">IH", 44100, 2))
    for kind, (name, unit) in enumerate([("av1", av1), ("vp9", vp9), ("vp8", vp8)], 1):
        seed("access_unit", name, bytes([kind << 3]) + unit)
    for name, unit in [("opus-head", head), ("mp3", mp3)]:
        seed("access_unit", name, b"\x08" + unit)


def segment_seeds():
    """Events as `segmenter` reads them: 90 ms apart, a keyframe now and then."""
    config = bytes([0, 0, 0, 0, 0, 0, 0, 0, 31, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    event = lambda kind, at, composition, size: struct.pack(">BiBhB", kind, at, 16, composition, size)
    both = b""
    for frame in range(40):
        at = frame * 90_000_000 >> 16
        both += event(2 if frame % 10 == 0 else 0x12, at, 40, 100) + event(5, at, 0, 20)
    seed("segmenter", "both", config + both)
    seed("segmenter", "sound", config[9:] + b"".join(event(5, f * 21_333_333 >> 16, 0, 9) for f in range(80)))
    seed("segmenter", "picture", config[:9] + b"".join(event(2, f * 600, 0, 250) for f in range(60)))
    seed("segmenter", "change", config + both[:180] + bytes([0, 0, 0, 0, 0, 0, 0, 0, 40]) + both[180:360])


def fusion_seeds():
    start = bytes([0, 0, 0, 0, 0, 0, 0])
    value = lambda signal, bucket, v: struct.pack(">BBHBh", 6 + signal, 0, bucket, 0, v)
    mark = lambda kind, bucket: struct.pack(">BBHBh", kind, 0, bucket * 15, 25, 0)
    log = start
    for bucket in range(60):
        for signal in range(4):
            log += value(signal, bucket, -20 if bucket % 20 else 30)
        if bucket % 5 == 4:
            log += mark(3, bucket) + mark(4, bucket) + mark(5, bucket)
    seed("fusion_log", "spikes", log[: 7 * 399] + mark(1, 60))
    seed("fusion_log", "ends", log[: 7 * 60] + mark(1, 40) + log[: 7 * 60])
    terms = '{"version":1,"dimensions":[{"name":"a","weight":0.3,"terms":[{"signal":"audio_loudness","weight":0.5},'
    terms += '{"signal":"chat_rate","weight":1}]},{"name":"b","weight":2,"terms":[{"signal":"video_change","weight":1}]}]'
    seed("dimension_set", "two", b"\x3f\x10\x20\x30\x40\x50\x60" + (terms + "}").encode())
    rest = ',"enter":0.3,"leave":0.1,"without_audience":0.8,"merge_s":1,"cooldown_s":2,"longest_s":60,"shortest_s":5}'
    seed("dimension_set", "all", b"\x07\xff\x00\x80\x40\x50\x60" + (terms + rest).encode())


def text_seeds():
    for at, header in enumerate(["bytes=0-", "bytes=10-19", "bytes=-5", "bytes=0-0,-1", "Bytes = 5 - 4", "bytes=99-9999999999999999999999"]):
        seed("http_range", f"range-{at}", struct.pack(">Q", 100 * (at + 1)) + header.encode())
    for at, cursor in enumerate(["MTc5NTpzdHJfYQ", "LTk6", "c3RyZWFtczpNVGM1TlRwemRISmZZUQ", "aGlnaGxpZ2h0czpx", "OTIyMzM3MjAzNjg1NDc3NTgwNzo"]):
        seed("store_cursor", f"cursor-{at}", cursor.encode())
        seed("api_cursor", f"cursor-{at}", cursor.encode())
    for at, url in enumerate(["http://127.0.0.1/", "http://0x7f000001/h", "https://[::ffff:10.0.0.1]:8443/", "http://user:pass@192.168.0.1/", "https://hooks.example/a?b#c", "http://2130706433/", "http://[64:ff9b::a9fe:a9fe]/", "http://127.1./", "https://8.8.8.8"]):
        seed("webhook_address", f"url-{at}", url.encode())
    for at, octets in enumerate([bytes([10, 0, 0, 1]), bytes([8, 8, 8, 8]), bytes([0x20, 2, 127, 0, 0, 1] + [0] * 10), bytes([0, 0x64, 0xFF, 0x9B] + [0] * 8 + [127, 0, 0, 1])]):
        seed("webhook_address", f"literal-{at}", octets)
    for at, value in enumerate(["250ms", "1.5m", "7d", " 12 h", "2026-11-21T10:00:00.000Z", "2026-11-21T10:00:00+02:00", "1e6", "-3.25"]):
        seed("written", f"text-{at}", value.encode())
    record = struct.pack(">HH", 1, 5) + b"str_apayload"
    seed("bus_record", "checked", b"\x85" + record)
    seed("bus_record", "unchecked", b"\x05" + record + b"12345678")
    seed("bus_record", "traced", b"\x85" + struct.pack(">HH", 0x8001, 5) + b"str_a" + bytes(range(1, 25)) + b"payload")
    seed("bus_record", "traced-by-nobody", b"\x85" + struct.pack(">HH", 0x8001, 5) + b"str_a" + bytes(24) + b"payload")
    fragment = '{"organization_id":"org_a","stream_id":"str_a","session":1,"object":"m/s.mp4","header_bytes":900,"offset":900,"bytes":5000,"start":0,"end":2000000000,"keyframe":true}'
    seed("bus_payload", "fragment", b"\5" + fragment.encode())


media_seeds()
hevc_seeds()
enhanced_seeds()
segment_seeds()
fusion_seeds()
text_seeds()
