#!/usr/bin/env bash
# Fuzzes the parsers of outside bytes. What the targets are and what to do with a finding: fuzz/README.md.
#
#   scripts/fuzz.sh build              builds every target (nightly Rust, cargo-fuzz)
#   scripts/fuzz.sh run TARGET SECONDS runs one target; TARGET may be `all`, one after the other
#   scripts/fuzz.sh until HH:MM SECONDS  goes round all targets until that time of day (UTC)
#   scripts/fuzz.sh fold [TARGET]      minimises what was collected into fuzz/corpus
#   scripts/fuzz.sh totals             seconds, executions, coverage and findings of each target so far
set -euo pipefail
cd "$(dirname "$0")/.."

# Build folder, programs, collected inputs, findings and totals: outside the checkout, as every build is.
home=${CREST_FUZZ_HOME:-$HOME/.cache/crest/fuzz}
targets=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v '^crest-fuzz$')
# No input needs more; what allocates more is a finding.
limits=(-rss_limit_mb=2048 -malloc_limit_mb=128 -timeout=10 -max_len=8192 -detect_leaks=0)
# Some targets write files. SQLite is linked twice, which the sanitizer takes for an error. What GLib holds when the
# program ends it takes for a leak.
export TMPDIR=${CREST_FUZZ_TMP:-/dev/shm} ASAN_OPTIONS=detect_odr_violation=0:detect_leaks=0
# A target's corpus in the repository, in bytes.
corpus_bytes=300000

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
}

tools() {
    export PATH="$home/tools/bin:$PATH"
    rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --root "$home/tools"
}

build() {
    tools
    local folder=$home/target
    env -u CARGO_TARGET_DIR cargo +nightly fuzz build --target-dir "$folder" "$@"
    mkdir -p "$home/bin"
    for target in $targets; do
        local program=$folder/x86_64-unknown-linux-gnu/release/$target
        [[ -x $program ]] && cp -f "$program" "$home/bin/$target.new" && mv "$home/bin/$target.new" "$home/bin/$target"
    done
    return 0
}

known() {
    grep -qx "$1" <<<"$targets" || { echo "no target '$1'; there are:" $targets >&2; exit 2; }
}

# Runs a target for so many seconds and adds a line to the totals: when, target, seconds, executions,
# edges covered, findings.
run() {
    local target=$1 seconds=$2 status=0
    local collected=$home/corpus/$target findings=$home/findings/$target log=$home/logs/$target.log
    mkdir -p "$collected" "$findings" "$home/logs" "fuzz/corpus/$target"
    local before after begin
    before=$(find "$findings" -type f | wc -l)
    begin=$(date +%s)
    nice -n 19 "$home/bin/$target" "${limits[@]}" -max_total_time="$seconds" \
        -print_final_stats=1 -artifact_prefix="$findings/" "$collected" "fuzz/corpus/$target" >"$log" 2>&1 || status=$?
    after=$(find "$findings" -type f | wc -l)
    local executions edges
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2 || true)
    echo "$(date -u +%H:%M:%S) $target $(($(date +%s) - begin)) ${executions:-0} ${edges:-0} $((after - before))" \
        >>"$home/runs.txt"
    if ((after > before)); then
        echo "$target: a finding in $findings; its report is in $log"
        return 1
    fi
    ((status == 0)) || { echo "$target: stopped with status $status, see $log"; return 1; }
    echo "$target: nothing found; ${executions:-0} executions, ${edges:-0} edges covered"
}

totals() {
    printf '%-18s %9s %13s %7s %9s\n' target seconds executions edges findings
    awk '{ s[$2] += $3; e[$2] += $4; if ($5 > c[$2]) c[$2] = $5; f[$2] += $6 }
        END { for (t in s) printf "%-18s %9d %13d %7d %9d\n", t, s[t], e[t], c[t], f[t] }' "$home/runs.txt" | sort
}

# Keeps of what was collected the smallest inputs that still cover what all of them cover.
fold() {
    local target=$1 merged=$home/merged/$1
    rm -rf "$merged"
    mkdir -p "$merged" "$home/corpus/$target" "fuzz/corpus/$target"
    nice -n 19 "$home/bin/$target" "${limits[@]}" -merge=1 "$merged" \
        "fuzz/corpus/$target" "$home/corpus/$target" >"$home/logs/$target.merge.log" 2>&1
    rm -rf "fuzz/corpus/$target"
    mkdir -p "fuzz/corpus/$target"
    local size total=0
    # The smallest first: they reach as much as the large ones, mostly.
    while read -r size path; do
        ((total + size <= corpus_bytes)) || break
        total=$((total + size))
        cp "$path" "fuzz/corpus/$target/"
    done < <(find "$merged" -type f -printf '%s %p\n' | sort -n)
    echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) inputs, $total bytes"
}

each() {
    local failed=0
    for target in $targets; do "$@" "$target" ${seconds:+"$seconds"} || failed=1; done
    return "$failed"
}

case ${1-} in
    build) build "${@:2}" ;;
    run)
        seconds=${3:-60}
        [[ ${2-} == all ]] && { each run; exit; }
        known "${2-}"
        run "$2" "$seconds"
        ;;
    until)
        end=$(date -u -d "${2:?}" +%s)
        while (($(date +%s) < end)); do
            for target in $targets; do
                left=$((end - $(date +%s)))
                ((left > 5)) || break
                seconds=${3:-300}
                run "$target" $((seconds < left ? seconds : left)) || true
                totals >"$home/totals.txt"
            done
        done
        ;;
    fold)
        seconds=
        [[ -z ${2-} ]] && { each fold; exit; }
        known "$2"
        fold "$2"
        ;;
    totals) totals ;;
    *) usage ;;
esac
