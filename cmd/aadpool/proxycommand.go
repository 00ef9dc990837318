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
)

// runWith runs the command after -- with a proxy of its own, which ends with it.
func (cmd *proxyCommand) runWith(in invocation, config proxy.Config, t target) error {
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
	stop, err := cmd.serveHTTP(p, config.Logger)
	if err != nil {
		p.Close()
		return err
	}
	defer stop()
	// Not in.ctx: a signal is for the command, and the proxy stays until that has ended.
	ctx, end := context.WithCancel(context.WithoutCancel(in.ctx))
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	defer serving.Wait()
	defer end()

	child := exec.Command(path, in.passed[1:]...)
	child.Env = replaceSettings(os.Environ(), clientEnvironment(p.Addrs()[0], config, t), isAboutTheServer)
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
func clientEnvironment(addr net.Addr, config proxy.Config, t target) map[string]string {
	host, port, mode := config.SocketDir, "5432", "disable"
	if addr.Network() != "unix" {
		host, port, _ = net.SplitHostPort(addr.String())
		if config.TLS != nil {
			mode = "require"
		}
	}
	set := map[string]string{
		"PGHOST": host, "PGPORT": port, "PGSSLMODE": mode, "PGGSSENCMODE": "disable",
		"PGDATABASE": t.config.ConnConfig.Database, "PGUSER": t.config.ConnConfig.User,
	}
	if config.AnyUser {
		set["PGUSER"] = ""
	}
	set["DATABASE_URL"] = databaseURL(set)
	return set
}

// databaseURL is a URL that libpq, pgx, psycopg, node-postgres and JDBC's relatives read.
func databaseURL(set map[string]string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + set["PGDATABASE"]}
	if set["PGUSER"] != "" {
		u.User = url.User(set["PGUSER"])
	}
	query := url.Values{"sslmode": {set["PGSSLMODE"]}}
	if strings.HasPrefix(set["PGHOST"], "/") {
		query.Set("host", set["PGHOST"])
		query.Set("port", set["PGPORT"])
	} else {
		u.Host = net.JoinHostPort(set["PGHOST"], set["PGPORT"])
	}
	u.RawQuery = query.Encode()
	return u.String()
}
