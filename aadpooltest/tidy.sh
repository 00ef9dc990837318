# Removes a server's directory when standard input ends, which the supervisor alone holds open: sh tidy.sh DIRECTORY
#
# It may be root that runs this. So it removes nothing below a directory, where another user could put a link in a path.
cat >/dev/null
rm -f "$1"/*
rmdir "$1"/* "$1"
