package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

// runWith runs the command after -- with a proxy of its own.
func (cmd *proxyCommand) runWith(in invocation, config proxy.Config, t server.Target) error {
	path, err := exec.LookPath(in.passed[0])
	if err != nil {
		return exit.Error{Status: exitNoProgram,
			Text: fmt.Sprintf("%s cannot be run: %s", in.passed[0], child.LookFailure(err))}
	}
	return runBeside(in, config, func(c proxy.Config, addr net.Addr) *exec.Cmd {
		program := exec.Command(path, in.passed[1:]...)
		program.Env = child.Environment(clientEnvironment(addr, c, t, cmd.password))
		return program
	})
}

// runBeside runs the program that makeProgram makes beside a proxy, which ends with it.
func runBeside(in invocation, config proxy.Config,
	makeProgram func(c proxy.Config, addr net.Addr) *exec.Cmd) (err error) {
	if config.SocketDir == "" && len(config.Listen) == 0 {
		if config.SocketDir, err = os.MkdirTemp("", "aadpool-"); err != nil {
			return fmt.Errorf("making a directory for the socket: %w", err)
		}
		defer os.RemoveAll(config.SocketDir)
	}
	config.Drain = 0 // the program has ended: what it has left behind has nobody to work for
	p, err := newProxy(config)
	if err != nil {
		return err
	}
	// Not in.ctx: a signal is for the program, and the proxy stays until that has ended.
	ctx, end := context.WithCancel(context.WithoutCancel(in.ctx))
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	defer serving.Wait()
	defer end()

	program := makeProgram(config, p.Addrs()[0])
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, in.stdout, in.stderr
	return child.Run(in.ctx, program, in.outside.inForeground)
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
	set["DATABASE_URL"] = child.DatabaseURL(set)
	return set
}
