package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Where --tcp listens. A command is told where its proxy is, everybody else expects PostgreSQL's port.
const (
	tcpAddress        = "127.0.0.1:5432"
	tcpCommandAddress = "127.0.0.1:0"
)

// chooseListener is for a proxy that nobody has told where to listen. runWith makes a directory for a command's socket.
func (cmd *proxyCommand) chooseListener(c *proxy.Config, forCommand bool) {
	if c.SocketDir != "" || len(c.Listen) > 0 {
		return
	}
	cmd.TCP = cmd.TCP || !unixsocket.CanKeepDir
	switch {
	case cmd.TCP && forCommand:
		c.Listen = []string{tcpCommandAddress}
	case cmd.TCP:
		c.Listen = []string{tcpAddress}
	case !forCommand:
		c.SocketDir = unixsocket.DefaultDir()
	}
}

// setPassword is the password of --tcp where no --password-file gives one: every user of this machine can connect. A
// command's proxy has one of its own, and the others the one in a file that only this user can read.
func (cmd *proxyCommand) setPassword(c *proxy.Config, forCommand bool) (err error) {
	if forCommand {
		cmd.password = rand.Text()
		c.Password, err = proxy.NewPassword(cmd.password)
		return err
	}
	if cmd.PasswordFile, err = ownPasswordFile(); err != nil {
		return usageError(fmt.Sprintf("there is no place for the password of --tcp: %v: give a --password-file", err))
	}
	c.Logger.Info("clients must know the password", "file", cmd.PasswordFile)
	c.Password, err = readPassword(cmd.PasswordFile)
	return err
}

// readPassword reads a password file.
func readPassword(path string) (*proxy.Password, error) {
	password, err := proxy.ReadPassword(path)
	if err != nil {
		return nil, usageError(err.Error())
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
