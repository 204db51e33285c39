# Shared by check and regenerate: builds the oracle into $work and runs every scenario into $work/traces.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/traces"

# shellcheck disable=SC2046 # pkg-config prints several words
"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -pthread ./*.c \
    $(pkg-config --cflags --libs libevent libevent_pthreads) -o "$work/oracle"

header="# libevent $("$work/oracle" version)"
if package=$(dpkg-query -W -f '${Version}' libevent-dev 2>/dev/null); then
    header="$header Debian $package"
fi
