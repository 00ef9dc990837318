package proxy

import (
	"net"
	"os"
	"strings"
)

// Notify tells systemd how the service is doing, READY=1 for example, if systemd has started this process and wants to
// know: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") { // an abstract socket
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
