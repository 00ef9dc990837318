package proxycommand

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

// runWith runs the command after -- with a proxy of its own.
func (cmd *Command) runWith(in invocation.Invocation, u *upstreams) error {
	path, err := exec.LookPath(in.Passthrough[0])
	if err != nil {
		return exit.Error{Status: diag.NoProgram,
			Text: fmt.Sprintf("%s cannot be run: %s", in.Passthrough[0], child.LookFailure(err))}
	}
	if err := cmd.testConnections(in, u); err != nil {
		return err
	}
	config, err := cmd.config(u)
	if err != nil {
		return err
	}
	return runBeside(in, config, func(p *proxy.Proxy) *exec.Cmd {
		program := exec.Command(path, in.Passthrough[1:]...)
		program.Env = child.Environment(u.commandEnvironment(p))
		return program
	})
}

// runBeside runs the program that makeProgram makes beside a proxy, which ends with it.
func runBeside(in invocation.Invocation, config proxy.Config, makeProgram func(*proxy.Proxy) *exec.Cmd) error {
	remove, err := makeSocketDirs(config.Upstreams)
	if err != nil {
		return err
	}
	defer remove()
	config.Drain, config.MinDrain = 0, 0 // the program has ended: what it has left behind has nobody to work for
	p, err := newProxy(config)
	if err != nil {
		return err
	}
	// Not in.Ctx: a signal is for the program, and the proxy stays until that has ended.
	ctx, end := context.WithCancel(context.WithoutCancel(in.Ctx))
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	defer serving.Wait()
	defer end()

	program := makeProgram(p)
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, in.Stdout, in.Stderr
	return child.Run(in.Ctx, program, in.System.InForeground)
}

// makeSocketDirs makes a directory for the sockets of those for which nobody has named one.
func makeSocketDirs(upstreams []*proxy.Upstream) (remove func(), err error) {
	dir := ""
	for _, u := range upstreams {
		if u.SocketDir != "" || len(u.Listen) > 0 {
			continue
		}
		if dir == "" {
			if dir, err = os.MkdirTemp("", "aadpool-"); err != nil {
				return nil, fmt.Errorf("making a directory for the socket: %w", err)
			}
		}
		u.SocketDir = filepath.Join(dir, u.Name)
	}
	return func() {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}, nil
}

// commandEnvironment is for a client of the first server, and of each that has a name: DATABASE_URL_ORDERS for orders.
func (u *upstreams) commandEnvironment(p *proxy.Proxy) map[string]string {
	var set map[string]string
	for _, m := range u.current() {
		addrs := p.AddrsOf(m.upstream)
		if len(addrs) == 0 {
			continue
		}
		own := clientEnvironment(addrs[0], m.upstream, m.target, m.password)
		if set == nil {
			set = own
		}
		if m.name != "" {
			set["DATABASE_URL_"+variableName.Replace(strings.ToUpper(m.name))] = own["DATABASE_URL"]
		}
	}
	return set
}

// variableName has no character that a shell takes for the end of a name.
var variableName = strings.NewReplacer("-", "_", ".", "_")

// clientEnvironment are libpq's variables, and the one that other programs read, for a client of the proxy at addr.
// password is empty where the proxy asks for none.
func clientEnvironment(addr net.Addr, config *proxy.Upstream, t server.Target, password string) map[string]string {
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
