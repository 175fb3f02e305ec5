# What `kafka`, `postgres` and `s3` beside this file share; they source it.
#
# A service lives in a folder DIR of its own: its data, its log, its port and its process. The script that
# sources this one says what differs:
#   installed, install   whether what it needs is there; installs it
#   prepare              writes the data and the configuration in DIR that are not there yet
#   program              sets `command`: what to run, in the foreground
#   ready                whether it answers
#   tell                 prints how to reach it, as KEY=value lines
#   ours                 what it writes into DIR
set -euo pipefail

script=$(readlink -f "$0")
service=$(basename "$script")
here=$(dirname "$script")
# What is downloaded or built once and used by every DIR.
home=${CREST_DEV_HOME:-$HOME/.cache/crest/dev}
# Asks the service to end at once and in order.
stop_signal=TERM
ready_seconds=60 stop_seconds=15
# What the log says where it can be started as soon as what is left of an earlier process has gone.
not_yet=
# The port to take at the first start; a free one where it is empty.
fixed_port=
command=() ours=()

say() { printf '%s: %s\n' "$service" "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else
        have sudo || die "run 'make setup' as root, or install sudo; it is needed for: $*"
        sudo "$@"
    fi
}
apt_install() {
    have apt-get || die "this machine has no apt-get; install these yourself, then run it again: $*"
    say "installing $*"
    {
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
    } >&2
}
# Below the ports that the kernel gives to outgoing connections.
free_port() {
    local port
    while port=$((10000 + SRANDOM % 20000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
pick_port() { [[ -s $dir/port ]] || echo "${fixed_port:-$(free_port)}" >"$dir/port"; }
secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# When a process began: with its number it names the process for good. Fails where it has ended.
born() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != Z ]] && echo "${stat[19]}"
}
alive() { [[ $(born "$1" || true) == "$2" && -n $2 ]]; }
running() { [[ -s $dir/pid ]] && read -r pid began <"$dir/pid" && alive "$pid" "$began"; }

# Runs the command apart from this terminal and waits until it answers.
launch() {
    local end=$((SECONDS + ready_seconds))
    [[ ! -f $dir/log ]] || mv "$dir/log" "$dir/log.before"
    setsid "${command[@]}" </dev/null >"$dir/log" 2>&1 9>&- &
    pid=$!
    echo "$pid $(born "$pid" || true)" >"$dir/pid"
    while ((SECONDS < end)); do
        running || return 1
        ready 2>/dev/null && return
        sleep 0.05
    done
    say "not ready after $ready_seconds s"
    return 1
}
failed() {
    say "it does not start; from $dir/log:"
    { grep -E 'ERROR|FATAL|Exception' "$dir/log" | head -n 8 || true; tail -n 8 "$dir/log"; } | cut -c -300 >&2
    stop
    exit 1
}
provide() {
    installed && return
    # CREST_DEV_INSTALL=no: who runs this did not ask for that.
    [[ ${CREST_DEV_INSTALL-} != no ]] || die "not installed on this machine; run 'make setup' in crest's repository"
    mkdir -p "$home"
    exec 7>"$home/$service.lock"
    flock 7
    # What apt-get starts must not hold on to the locks, nor may this DIR be forgotten over it.
    (installed || install) 7>&- 9>&-
    exec 7>&-
}
start() {
    provide
    local new= end=$((SECONDS + ready_seconds))
    [[ -s $dir/port || -n $fixed_port ]] || new=yes
    until running; do
        pick_port
        prepare
        program
        launch && break
        stop
        if [[ -n $new ]] && grep -q 'Address already in use' "$dir/log"; then
            # Somebody else took the port in between; a service that was here before keeps its own.
            rm -f "$dir/port"
        else
            [[ -n $not_yet ]] && grep -Eq "$not_yet" "$dir/log" && ((SECONDS < end)) || failed
            sleep 0.1
        fi
    done
    # CREST_DEV_WITH_PID=PID: the service and its data go when that process is gone, whatever ended it.
    if [[ -n ${CREST_DEV_WITH_PID-} ]]; then
        setsid "$script" watch "$dir" "$CREST_DEV_WITH_PID" </dev/null >/dev/null 2>&1 9>&- &
    fi
    tell
}
stop() {
    local end=$((SECONDS + stop_seconds))
    if running; then
        kill -s "$stop_signal" "$pid" && kill -s CONT "$pid" || true
        while running && ((SECONDS < end)); do sleep 0.05; done
        ! running || kill -s KILL "$pid"
        while running; do sleep 0.05; done
    fi
    rm -f "$dir/pid"
}
watch() {
    local owner=$1 since
    exec 8>"$dir/watch"
    flock -n 8 || exit 0
    since=$(born "$owner" || true)
    while alive "$owner" "$since"; do sleep 1; done
    [[ -d $dir ]] || exit 0
    locked "$dir"
    stop
    for name in "${ours[@]}" data log log.before port pid lock watch; do rm -rf "${dir:?}/$name"; done
    rmdir "$dir" || true
}
locked() {
    exec 9>"$1/lock"
    flock 9
}

main() {
    local what=${1-}
    case $what in
        install) provide; return ;;
        start | stop | status | watch) ;;
        *) sed -n '2,/^source /{/^#/s/^# \{0,1\}//p}' "$script" >&2; exit 2 ;;
    esac
    dir=${2:?the folder of the service}
    [[ $what != start ]] || mkdir -p "$dir"
    [[ -d $dir ]] || { [[ $what == stop ]] && return; die "$dir does not exist"; }
    dir=$(cd "$dir" && pwd)
    case $what in
        watch) watch "$3" ;;
        status) running || die "not running in $dir"; tell ;;
        *) locked "$dir"; "$what" ;;
    esac
}
