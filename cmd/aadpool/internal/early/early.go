//go:build linux

package early

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokenformat"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/scope"
)

func init() {
	if len(os.Args) < 2 || os.Args[1] != "token" || isShown(os.Stdout) {
		return
	}
	text, ok := answer(os.Args[2:], Patience)
	if !ok {
		return
	}
	if _, err := os.Stdout.WriteString(text + "\n"); err != nil { // a part of it may have been written
		fmt.Fprintln(os.Stderr, "aadpool:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// isShown reports whether a file may be a terminal: there a person is warned.
func isShown(file *os.File) bool {
	info, err := file.Stat()
	return err != nil || info.Mode()&os.ModeCharDevice != 0
}

// Patience is how long an agent may take, which has its token at hand but for the first call. Then the rest of the
// program asks it again.
const Patience = time.Second

// answer is what aadpool token prints with these arguments, if an agent has it.
func answer(arguments []string, patience time.Duration) (text string, ok bool) {
	c, ok := read(arguments)
	if !ok {
		return "", false
	}
	dir := unixsocket.Dir(c.agentDir)
	conn, err := dial(dir, agentclient.Socket(dir, c.Identity()), patience)
	if err != nil {
		return "", false
	}
	defer conn.Close()
	token, err := agentclient.Ask(conn, cmp.Or(c.scope, scope.OfEnvironment()), func() {})
	if err != nil {
		return "", false
	}
	text, ok, err = tokenformat.Text(c.format, token.Token, token.ExpiresOn)
	return text, ok && err == nil
}

// dial reaches a socket as agent.Dialer does, without package net, which would have much else begin before.
func dial(dir, path string, patience time.Duration) (*connection, error) {
	if err := unixsocket.CheckDir(dir); err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	conn := &connection{os.NewFile(uintptr(fd), path), time.Now().Add(patience)}
	wait := syscall.NsecToTimeval(int64(patience))
	err = errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &wait),
		syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}))
	if err == nil {
		err = unixsocket.CheckPeer(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// A connection is read from until patience has ended. The socket's own limit is one for each read.
type connection struct {
	*os.File
	until time.Time
}

func (c *connection) Read(p []byte) (int, error) {
	if time.Now().After(c.until) {
		return 0, os.ErrDeadlineExceeded
	}
	return c.File.Read(p)
}
