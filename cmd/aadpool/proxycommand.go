package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

// runWith runs the command after -- with a proxy of its own, which ends with it.
func (cmd *proxyCommand) runWith(in invocation, config proxy.Config, t server.Target) error {
	path, err := exec.LookPath(in.passed[0])
	if err != nil {
		return exitError{status: exitNoProgram, text: fmt.Sprintf("%s cannot be run: %s", in.passed[0], lookFailure(err))}
	}
	if config.SocketDir == "" && len(config.Listen) == 0 {
		if config.SocketDir, err = os.MkdirTemp("", "aadpool-"); err != nil {
			return fmt.Errorf("making a directory for the socket: %w", err)
		}
		defer os.RemoveAll(config.SocketDir)
	}
	config.Drain = 0 // the command has ended: what it has left behind has nobody to work for
	p, err := newProxy(config)
	if err != nil {
		return err
	}
	// Not in.ctx: a signal is for the command, and the proxy stays until that has ended.
	ctx, end := context.WithCancel(context.WithoutCancel(in.ctx))
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	defer serving.Wait()
	defer end()

	child := exec.Command(path, in.passed[1:]...)
	child.Env = replaceSettings(os.Environ(), clientEnvironment(p.Addrs()[0], config, t, cmd.password), isAboutTheServer)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, in.stdout, in.stderr
	return runChild(in, child)
}

// lookFailure is why a program was not found, without its name.
func lookFailure(err error) string {
	if failed, ok := errors.AsType[*exec.Error](err); ok {
		return failed.Err.Error()
	}
	return err.Error()
}

// clientEnvironment are libpq's variables, and the one that other programs read, for a client of the proxy at addr.
// password is empty where the proxy asks for none.
func clientEnvironment(addr net.Addr, config proxy.Config, t server.Target, password string) map[string]string {
	host, port, mode := config.SocketDir, "5432", "disable"
	if addr.Network() != "unix" {
		host, port, _ = net.SplitHostPort(addr.String())
		if config.Certificate != nil {
			mode = "require"
		}
	}
	set := map[string]string{
		"PGHOST": host, "PGPORT": port, "PGSSLMODE": mode, "PGGSSENCMODE": "disable", "PGPASSWORD": password,
		"PGDATABASE": t.Config.ConnConfig.Database, "PGUSER": t.Config.ConnConfig.User,
	}
	if config.AnyUser {
		set["PGUSER"] = ""
	}
	set["DATABASE_URL"] = databaseURL(set)
	return set
}

// databaseURL is what programs read that are not built on libpq. SQLAlchemy takes no scheme postgres, and asyncpg's
// dialect of it no sslmode: the proxy's TCP listener without TLS says by itself that it has none. No form for a Unix
// socket is read by all: this one is by libpq, pgx, SQLAlchemy, Django and node-postgres, and is no URL to postgres.js,
// Prisma, Ruby and PHP.
func databaseURL(set map[string]string) string {
	u := url.URL{Scheme: "postgresql", Path: "/" + set["PGDATABASE"]}
	switch user, password := set["PGUSER"], set["PGPASSWORD"]; {
	case password != "":
		u.User = url.UserPassword(user, password)
	case user != "":
		u.User = url.User(user)
	}
	if strings.HasPrefix(set["PGHOST"], "/") {
		u.RawQuery = url.Values{"host": {set["PGHOST"]}}.Encode()
		return u.String()
	}
	u.Host = net.JoinHostPort(set["PGHOST"], set["PGPORT"])
	if mode := set["PGSSLMODE"]; mode != "disable" {
		u.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	}
	return u.String()
}
