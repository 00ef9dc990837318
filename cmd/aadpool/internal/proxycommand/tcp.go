package proxycommand

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Where --tcp listens. A command is told where its proxy is, everybody else expects PostgreSQL's port.
const (
	tcpHost           = "127.0.0.1"
	tcpPort           = 5432
	tcpCommandAddress = "127.0.0.1:0"
)

// chooseListener is for an upstream that nobody has told where to listen. runWith makes a directory for a command's
// socket. Of several, each has a directory and a port of its own.
func (m *madeUpstream) chooseListener(forCommand bool) {
	u := m.upstream
	switch {
	case u.SocketDir != "" || len(u.Listen) > 0:
		if m.inSubdir {
			u.SocketDir = filepath.Join(u.SocketDir, m.name)
		}
	case m.isTCPByDefault() && forCommand:
		u.Listen = []string{tcpCommandAddress}
	case m.isTCPByDefault():
		u.Listen = []string{net.JoinHostPort(tcpHost, strconv.Itoa(tcpPort+m.at))}
	case !forCommand:
		u.SocketDir = filepath.Join(unixsocket.DefaultDir(), m.name)
	}
}

// isTCPByDefault reports whether the upstream is to listen on TCP and ask for a password.
func (m *madeUpstream) isTCPByDefault() bool {
	isTold := m.flags.SocketDir != "" || len(m.flags.Listen) > 0
	return m.flags.TCP || !unixsocket.CanKeepDir && !isTold
}

// setPassword is the password of --tcp where no --password-file gives one: every user of this machine can connect. A
// command's proxy has one of its own, and the others the one in a file that only this user can read.
func (m *madeUpstream) setPassword(logger *slog.Logger, forCommand bool) (err error) {
	if forCommand {
		m.password = rand.Text()
		m.upstream.Password, err = proxy.NewPassword(m.password)
		return err
	}
	if m.passwordFile, err = ownPasswordFile(); err != nil {
		return exit.Usage(fmt.Sprintf("there is no place for the password of --tcp: %v: give a --password-file", err))
	}
	logger.Info("clients must know the password", "file", m.passwordFile)
	m.upstream.Password, err = readPassword(m.passwordFile)
	return err
}

// readPassword reads a password file.
func readPassword(path string) (*proxy.Password, error) {
	password, err := proxy.ReadPassword(path)
	if err != nil {
		return nil, exit.Usage(err.Error())
	}
	return password, nil
}

// ownPasswordFile is a file with a password in the user's configuration directory. It is made unless it is there.
func ownPasswordFile() (path string, err error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "aadpool", "proxy-password")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(file, rand.Text())
	return path, errors.Join(err, file.Close())
}
