#!/usr/bin/env bash
# Installs what crest needs and this machine lacks; a second run changes nothing and needs no network.
#   setup.sh run    to build and run crest
#   setup.sh all    to test it as well, with Apache Kafka, PostgreSQL and an S3 server (deploy/dev/)
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# What apt-get has to install: a program by its name, everything else by its package.
missing=()
program() { have "$1" || missing+=("${@:2}"); }
package() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true) == installed ]] || missing+=("$1")
}

if have apt-get && have dpkg-query; then
    for name in build-essential ca-certificates libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
        gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
        gstreamer1.0-libav libavcodec-dev libswscale-dev libsrt1.5-gnutls libssl-dev zlib1g-dev; do
        package "$name"
    done
    program pkg-config pkg-config
    program mold mold
    program ffmpeg ffmpeg
    program ffprobe ffmpeg
    program curl curl
    if [[ $what == all ]]; then
        program gst-launch-1.0 gstreamer1.0-tools
        program python3 python3 python3-venv
        python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
        program node nodejs
        program npm npm
        # Peers of pulled feeds: a web server, what finds the broadcast on a page, GStreamer's RTSP server.
        for name in nginx-light streamlink python3-gi gir1.2-gst-rtsp-server-1.0; do package "$name"; done
        # Test certificates and keys.
        program openssl openssl
        # Ubuntu has it as a snap alone: scripts/verifiers.sh fetches one there.
        if ! grep -q '^ID=ubuntu$' /etc/os-release; then program chromium chromium; fi
    fi
    if ((${#missing[@]})); then
        sudo=()
        if [[ $(id -u) != 0 ]]; then
            have sudo || die "run this as root, or install sudo; missing: ${missing[*]}"
            sudo=(sudo)
        fi
        say "installing ${missing[*]}"
        "${sudo[@]}" apt-get update -q
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    fi
else
    # Not Debian or Ubuntu: say what is missing and leave the installing to its owner.
    for name in cc pkg-config mold ffmpeg ffprobe curl; do have "$name" || missing+=("$name"); done
    if have pkg-config; then
        pkg-config --exists gstreamer-1.0 gstreamer-app-1.0 || missing+=("GStreamer 1.22 with its development files")
        pkg-config --exists libavcodec libswscale libavutil || missing+=("FFmpeg's libavcodec and libswscale with their development files")
        pkg-config --exists openssl zlib || missing+=("OpenSSL and zlib with their development files")
    fi
    if [[ $what == all ]]; then
        for name in python3 node npm openssl gst-launch-1.0; do have "$name" || missing+=("$name"); done
    fi
    ((${#missing[@]} == 0)) || die "this machine has no apt-get; install these yourself, then run it again: ${missing[*]}"
fi

# Rust: what is there stays as it is if it is new enough.
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
new_enough() {
    local version
    version=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
    [[ -n $version && $(printf '%s\n%s\n' "$needed" "$version" | sort -V | head -n 1) == "$needed" ]]
}
if ! new_enough; then
    if have rustup; then
        say "Rust $needed or newer is needed: installing the stable toolchain for this folder"
        rustup toolchain install stable --profile minimal --component rustfmt,clippy
        rustup override set stable --path "$PWD"
    else
        say "Rust $needed or newer is needed: installing it with rustup (https://rustup.rs)"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal --default-toolchain stable --component rustfmt,clippy
    fi
    hash -r
    new_enough || die "Rust $needed or newer is needed, but 'cargo --version' says: $(cargo --version 2>&1 || true)"
fi
if have rustup; then
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
fi

if [[ $what == all ]]; then
    for service in kafka postgres s3; do deploy/dev/"$service" install; done
fi
