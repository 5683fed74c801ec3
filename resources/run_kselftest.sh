#!/usr/bin/env bash
# Runs scenarios for systems that call kselftest's run_kselftest.sh. See --help.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
# shellcheck source-path=SCRIPTDIR source=program.sh
. "$here/program.sh"

usage() {
    cat <<'USAGE'
resources/run_kselftest.sh [OPTION]...

Runs ghostlink's scenarios as the collection `ghostlink` of kselftest: with the options of
run_kselftest.sh, and TAP of the same form. The scenarios test the kernel KSELFTEST_KERNEL, which may be
all that `ghostlink test --kernel` takes, by default the running kernel.

  -l, --list                   list the tests: ghostlink:NAME
  -t, --test ghostlink:NAME    run this test; may be repeated
  -c, --collection ghostlink   run all of them, as without -t
  -d, --dry-run                print the commands and run nothing
  -s, --summary                write details to output.log in the current directory, not to standard output
  -p, --per-test-log           write details to /tmp/NAME, not to standard output
  -o, --override-timeout N     end each test after N seconds

The exit status is 0, whatever the tests found, as of run_kselftest.sh; it is 125 if a test does not
exist. GHOSTLINK=FILE names the program, instead of building one.
USAGE
}

collection=ghostlink
kernel=${KSELFTEST_KERNEL:-$(uname -r)}
tests=()
all=no dry=no list=no summary=no per_test=no timeout=
while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        -l | --list) list=yes ;;
        -d | --dry-run) dry=yes ;;
        -s | --summary) summary=yes ;;
        -p | --per-test-log) per_test=yes ;;
        -c | --collection)
            [[ ${2:-} == "$collection" ]] || die "No such collection '${2:-}'; there is $collection"
            all=yes
            shift
            ;;
        -t | --test)
            [[ ${2:-} == "$collection":* ]] || die "No such test '${2:-}'; --list prints them"
            tests+=("${2#*:}")
            shift
            ;;
        -o | --override-timeout)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--override-timeout takes seconds, not '${2:-}'"
            timeout=$2
            shift
            ;;
        *) die "unknown option '$1'; see --help" ;;
    esac
    shift
done
[[ $summary == no || $per_test == no ]] || die "--summary and --per-test-log exclude each other"

build_program
# The first word of each line is a scenario.
listed=$("$program" test --list)
available=$(awk '{ print $1 }' <<<"$listed")
if [[ $list == yes ]]; then
    sed "s/^/$collection:/" <<<"$available"
    exit 0
fi
for name in "${tests[@]}"; do
    grep -qxF -e "$name" <<<"$available" || die "No such test '$collection:$name'; --list prints them"
done
if [[ $all == yes || ${#tests[@]} -eq 0 ]]; then
    mapfile -t tests <<<"$available"
fi

# Details go to file descriptor 3.
exec 3>&1
[[ $summary == no ]] || exec 3>"$PWD/output.log"

# run_one NUMBER NAME
run_one() {
    local number=$1 name=$2 header="selftests: $collection: $2" status=0 output
    local -a command=("$program" test "$name" --kernel "$kernel" ${timeout:+--time-limit "${timeout}s"})
    if [[ $dry == yes ]]; then
        printf '%s\n' "${command[*]}"
        return
    fi
    [[ $per_test == no ]] || exec 3>"/tmp/$name"
    echo "# timeout set to ${timeout:-that of the scenario}" >&3
    echo "# $header"
    output=$("${command[@]}" 2>&1 </dev/null) || status=$?
    sed 's/^/# /' <<<"$output" >&3
    if [[ $status -ne 0 ]]; then
        echo "not ok $number $header # exit=$status"
    elif grep -qE "^ *ok [0-9]+ $name # SKIP" <<<"$output"; then
        echo "ok $number $header # SKIP"
    else
        echo "ok $number $header"
    fi
}

if [[ $dry == no ]]; then
    echo "TAP version 13"
    echo "1..${#tests[@]}"
fi
number=0
for name in "${tests[@]}"; do
    number=$((number + 1))
    run_one "$number" "$name"
done
