# The terminal of a reader who follows a page. The test feeds the blocks of the page to this shell.
exec 2>&1
set -o pipefail
__logs=0
__daemon=

# The reader has opened another terminal for a command that does not end. Waits until its output
# matches.
__endless() {
    local pattern=$1 log=$HOME/log.$((__logs += 1)) pid
    shift
    : >"$log"
    setpriv --pdeathsig KILL "$@" </dev/null >"$log" 2>&1 &
    pid=$!
    [ "$2" != run ] || __daemon=$pid
    if ! grep -q -m 1 -E "$pattern" < <(timeout 30 tail -n +1 -f --pid=$pid "$log"); then
        cat "$log"
        wait $pid
        local code=$?
        # It should not have ended.
        return $((code > 0 ? code : 1))
    fi
}

webhookd() {
    case " $* " in
        *' --help '* | *' --count '*) "$PGW_WEBHOOKD" "$@" ;;
        ' run '*)
            # Ctrl-C in the other terminal, if a daemon runs there.
            [ -z "$__daemon" ] || { kill -INT "$__daemon" && wait "$__daemon" || true; }
            local pattern='daemon\.(active|stands_by)'
            # The admin server is ready later than the daemon.
            [[ " $* " != *' --admin '* ]] || pattern='admin\.listens'
            __endless "$pattern" "$PGW_WEBHOOKD" "$@"
            ;;
        # Looks at it for a moment, and presses Ctrl-C.
        *' --forward-to '* | ' tail '*) timeout --preserve-status -s INT 1 "$PGW_WEBHOOKD" "$@" ;;
        ' listen '*) __endless 'listening on' "$PGW_WEBHOOKD" "$@" ;;
        *) "$PGW_WEBHOOKD" "$@" ;;
    esac
}

# The example of docs/TENANTS.md is a server.
python3() {
    case $1 in
        app.py) __endless 'listening on' python3 -u "$@" ;;
        *) command python3 "$@" ;;
    esac
}

# Who runs the test may do what the page needs sudo for, in the folder of the test.
sudo() {
    while [[ $1 == -* ]]; do [ "$1" != -u ] || shift; shift; done
    "$@"
}

# Says how the last failing command of a block has ended. The block must not read our input.
__run() {
    __code=0
    trap '__code=$?' ERR
    source "$1" </dev/null
    trap - ERR
}
set -E
