package azuretest

import (
	"bytes"
	"net"
)

// WatchPassword returns conn for a config's AfterNetConnect. It tells of the password that is sent on it: of a token
// that pgx has in its config at no other time.
func WatchPassword(conn net.Conn, told func(conn net.Conn, password string)) net.Conn {
	return &passwordWatch{conn, told}
}

type passwordWatch struct {
	net.Conn
	told func(net.Conn, string) // nil when it has been
}

func (w *passwordWatch) Write(p []byte) (int, error) {
	if w.told != nil && len(p) > 5 && p[0] == 'p' {
		password, _, _ := bytes.Cut(p[5:], []byte{0})
		w.told(w, string(password))
		w.told = nil
	}
	return w.Conn.Write(p)
}
