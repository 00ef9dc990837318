package proxycommand

import (
	"crypto/rand"
	"fmt"
	"net"
	"os/exec"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Psql is aadpool psql: the proxy with psql as its command.
type Psql struct {
	DSN string `arg:"" optional:"" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used."`
	tokens.Flags
}

// Help is shown by aadpool psql --help.
func (Psql) Help() string {
	return `Arguments after -- are psql's: aadpool psql 'host=… user=… dbname=…' -- -c 'select 1'

psql connects to a proxy of its own, which ends with it: see aadpool proxy. So psql has no token, and \c logs in with a fresh
one. TLS is as a pool would have it: verify-full unless the DSN says otherwise, and nothing in the clear to another machine.
The exit status is psql's own.`
}

var errNoPsql = exit.Error{Status: diag.NoProgram, Text: "psql is not on PATH: install it " +
	"(Debian and Ubuntu: apt-get install postgresql-client; macOS: brew install libpq)"}

// Run runs psql.
func (cmd *Psql) Run(in invocation.Invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	cmd.FillFrom(cmd.DSN)
	t, policyErr, err := server.ParseTarget(cmd.DSN, cmd.Scope)
	if err != nil {
		return exit.Usage(err.Error())
	}
	if policyErr != nil {
		return exit.Error{Status: diag.OfPolicy(t.First(), policyErr).Status, Text: terminal.WithoutPrefix(policyErr)}
	}
	source, err := cmd.NewSource(in.System.ClientOptions)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("psql")
	if err != nil {
		return errNoPsql
	}
	as := t.Config.ConnConfig.Copy()
	if _, _, err := source.Token(in.Ctx, as); err != nil {
		return err
	}
	for _, note := range t.Notes {
		fmt.Fprintln(in.Stderr, "aadpool:", note)
	}
	config, password, err := cmd.proxyConfig(in, t, source)
	if err != nil {
		return err
	}
	return runBeside(in, config, func(p *proxy.Proxy) *exec.Cmd {
		program := exec.Command(path, in.Passthrough...)
		u := config.Upstreams[0]
		program.Env = child.Environment(psqlEnvironment(u, p.AddrsOf(u)[0], t, as.User, password))
		return program
	})
}

// proxyConfig is that of psql's proxy. The role is the one that psql names: \c and -U may name another.
func (cmd *Psql) proxyConfig(
	in invocation.Invocation, t server.Target, source tokens.Source,
) (c proxy.Config, password string, err error) {
	u := &proxy.Upstream{Hook: source.Hook, Server: t.Secured.ConnConfig, AnyUser: true, OldProtocol: t.OnlyProtocol30}
	c = proxy.Config{Upstreams: []*proxy.Upstream{u}, Logger: tokens.Silent} // psql says what goes wrong
	u.Server.Password = ""
	if in.System.LookUp != nil {
		u.Server.LookupFunc = in.System.LookUp
	}
	if unixsocket.CanKeepDir {
		return c, "", nil
	}
	u.Listen, password = []string{tcpCommandAddress}, rand.Text()
	u.Password, err = proxy.NewPassword(password)
	return c, password, err
}

// psqlEnvironment leads psql to its proxy. What the DSN says of the session is said there, but for the name that psql
// gives itself.
func psqlEnvironment(u *proxy.Upstream, addr net.Addr, t server.Target, role, password string) map[string]string {
	set := clientEnvironment(addr, u, t, password)
	delete(set, "DATABASE_URL")
	set["PGUSER"], set["PGAPPNAME"] = role, t.Config.ConnConfig.RuntimeParams["application_name"]
	if addr.Network() == "unix" {
		set["PGSSLMODE"] = "" // a socket has no TLS; what -h names instead may have
	}
	return set
}
