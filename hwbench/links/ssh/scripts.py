"""What the board's own shell does for us: one line each, for any POSIX shell, its values as arguments."""

from __future__ import annotations

# Programs that set clocks stand where a user's PATH does not lead.
MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
MARK = b"hwbench:"

# Tells its number before it becomes the program; a login shell may have printed whatever it likes before that.
START = (
    'command -v "$1" >/dev/null 2>&1 || { echo hwbench:absent; echo "$1: not found" >&2; exit 127; }; '
    'echo "hwbench:$$"; exec "$@"'
)
# Only a process of ours is killed: its number may be another's by now.
KILL = 'grep -qF "$2" "/proc/$1/environ" || exit 0; kill "-$3" "-$1" || kill "-$3" "$1"'
LOOK = (
    'cd || exit; echo hwbench:; pwd; echo "$PATH"; id -u; cd -- "$1" 2>/dev/null || exit 0; '
    "[ ! -x venv/bin/python ] || echo venv"
)
# Runs as long as the connection: a line asks whether a file is there whole, or gives the right content its name.
# What a lost connection left half sent an hour ago, nobody sends any more.
KEEPER = (
    'umask 077; cd -- "$1" || exit; find . -name "*.part" -mmin +60 -exec rm -f {} + 2>/dev/null; '
    'same() { set -- "$2" $(sha256sum <"$1"); [ "$1" = "$2" ]; }; '
    "while read -r what name part; do sum=${name%%.*}; case $what in "
    'have) [ -f "$name" ] && same "$name" "$sum" && echo yes || echo no;; '
    'keep) same "$part" "$sum" && mv -f "$part" "$name" && echo yes || { rm -f "$part"; echo no; };; esac; done'
)
