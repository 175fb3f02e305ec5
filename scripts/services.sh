#!/usr/bin/env bash
# Kafka, PostgreSQL and S3 for the tests, from deploy/dev/.
#   services.sh with COMMAND ARGS   starts them, runs the command, stops them and removes their data, whatever
#                                   happens; where the environment names all three already, those are used
#   services.sh start DIR           starts them with their data in DIR and prints the environment of the tests
#   services.sh stop DIR            stops them; their data stay
set -euo pipefail
dev=$(cd "$(dirname "${BASH_SOURCE[0]}")/../deploy/dev" && pwd)
services=(kafka postgres s3)
# Tests are about the death of processes, not about a loss of power.
export POSTGRES_FSYNC=${POSTGRES_FSYNC:-off}

start() {
    local folder=$1 service pids=()
    mkdir -p "$folder"
    for service in "${services[@]}"; do
        "$dev/$service" start "$folder/$service" >/dev/null &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    told() { "$dev/$1" status "$folder/$1" | sed -n "s/^$2=//p"; }
    variables=(
        CREST_TEST_KAFKA="$(told kafka brokers)" CREST_TEST_POSTGRES="$(told postgres url)"
        CREST_TEST_S3="$(told s3 endpoint)" CREST_TEST_S3_KEY="$(told s3 access_key_id)"
        CREST_TEST_S3_SECRET="$(told s3 secret_access_key)"
    )
}
stop() {
    local service
    for service in "${services[@]}"; do "$dev/$service" stop "$1/$service" || true; done
}

case ${1-} in
    with)
        shift
        [[ -n ${CREST_TEST_KAFKA-} && -n ${CREST_TEST_POSTGRES-} && -n ${CREST_TEST_S3-} ]] && exec "$@"
        folder=$(mktemp -d "${TMPDIR:-/tmp}/crest-services-XXXXXX")
        trap 'stop "$folder"; rm -rf "$folder"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        # Should this script be killed, they end all the same.
        export CREST_DEV_WITH_PID=$$
        start "$folder"
        unset CREST_DEV_WITH_PID
        env "${variables[@]}" "$@"
        ;;
    start)
        start "${2:?the folder for their data}"
        printf 'export %s\n' "${variables[@]@Q}"
        ;;
    stop) stop "${2:?the folder of their data}" ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
