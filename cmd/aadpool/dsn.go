package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

// silent is the logger of a Hook whose warnings would say again what the program says.
var silent = slog.New(slog.DiscardHandler)

// A target is a DSN as it is understood.
type target struct {
	*dsn.Target
	config  *pgxpool.Config // as the DSN, the environment and the service file say
	secured *pgxpool.Config // with the TLS policy
	secret  string          // the password that is given and not used
	own     credential.Parameters
}

// parseTarget reads the DSN. The errors repeat nothing of it. policyErr is set if the DSN is well-formed but would send a
// token in the clear (it is [aadpool.ErrPlaintext] then), or needs tokens of several scopes.
func parseTarget(connString, scope string) (t target, policyErr, err error) {
	return readTarget(dsn.Read, connString, scope)
}

func readTarget(reader func(string) (*dsn.Target, error), connString, scope string) (t target, policyErr, err error) {
	read, err := reader(connString)
	if err != nil {
		return target{}, nil, err
	}
	t = target{Target: read, config: read.Config, secured: read.Config.Copy(), secret: read.Config.ConnConfig.Password}
	if t.own, err = credential.ReadParameters(read.Own); err != nil {
		return target{}, nil, err
	}
	secured := &t.secured.ConnConfig.Config
	if err := dsn.CheckAuth(secured); err != nil {
		return target{}, nil, err
	}
	if policyErr = dsn.Secure(secured, read.Policy); policyErr == nil && cmp.Or(scope, t.own.Scope) == "" {
		_, policyErr = dsn.Scope(secured)
	}
	return t, policyErr, nil
}

// takeFrom takes what the DSN says of the credential and its token, and the flags do not. A DSN that cannot be read is
// reported when it is used.
func (f *credentialFlags) takeFrom(connString string) {
	t, _, err := readTarget(dsn.ReadForLibpq, connString, f.Scope)
	if err != nil {
		return
	}
	if f.Credential == credential.Default {
		f.Credential = cmp.Or(t.own.Credential, f.Credential)
	}
	if f.Timeout == defaultTimeout && credential.IsSignIn(f.Credential) {
		f.Timeout = signInTimeout
	}
	f.ClientID, f.TenantID = cmp.Or(f.ClientID, t.own.ClientID), cmp.Or(f.TenantID, t.own.TenantID)
	f.Scope, f.userFromToken = cmp.Or(f.Scope, t.own.Scope), t.own.UserFromToken
}

// withoutPrefix is the text of an error of package aadpool, which begins with its name.
func withoutPrefix(err error) string { return terminal.WithoutPrefix(err) }

// A host is one of the servers that the DSN names, and how it is reached.
type host struct {
	name string
	port uint16
	tls  *tls.Config // nil: in the clear, on this machine
}

func (h host) address() string { return net.JoinHostPort(h.name, strconv.Itoa(int(h.port))) }

// socket is the path of a Unix socket, or empty.
func (h host) socket() string {
	if network, address := pgconn.NetworkAddress(h.name, h.port); network == "unix" {
		return address
	}
	return ""
}

// server is what a diagnosis says of it.
func (h host) server() diag.Server {
	return diag.Server{Host: h.name, Port: h.port, Socket: h.socket()}
}

func (h host) String() string {
	if path := h.socket(); path != "" {
		return path
	}
	return h.address()
}

// hosts are those of a config that the TLS policy has been applied to, in the order in which pgx tries them.
func hosts(config *pgconn.Config) []host {
	all := []host{{config.Host, config.Port, config.TLSConfig}}
	for _, f := range config.Fallbacks {
		if last := all[len(all)-1]; last.name != f.Host || last.port != f.Port {
			all = append(all, host{f.Host, f.Port, f.TLSConfig})
		}
	}
	return all
}

func hostNames(all []host) string {
	names := make([]string, len(all))
	for i, h := range all {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}

// sslMode is what a TLS config that pgx has made means, in libpq's words.
func sslMode(c *tls.Config) string {
	switch {
	case c == nil:
		return "disable"
	case !c.InsecureSkipVerify:
		return "verify-full"
	case c.VerifyPeerCertificate != nil || c.VerifyConnection != nil:
		return "verify-ca"
	}
	return "require"
}

var modeMeaning = map[string]string{
	"disable":     "no TLS, which is allowed as it does not leave this machine",
	"verify-full": "verify-full: the certificate's chain and name are verified",
	"verify-ca":   "verify-ca: the certificate's chain is verified, but not its name",
	"require":     "require: encrypted, but whoever answers gets the token; use verify-full",
}

// isRaised reports whether the TLS policy has made more of what the DSN asked for.
func (t target) isRaised() bool {
	fallsBack := func(c *pgconn.Config) bool {
		withTLS, without := c.TLSConfig != nil, c.TLSConfig == nil
		for _, f := range c.Fallbacks {
			withTLS, without = withTLS || f.TLSConfig != nil, without || f.TLSConfig == nil
		}
		return withTLS && without
	}
	return fallsBack(&t.config.ConnConfig.Config) && len(t.secured.ConnConfig.Fallbacks) < len(t.config.ConnConfig.Fallbacks)
}

// database is the one that PostgreSQL takes: the role's name where the DSN names none.
func (t target) database() string {
	if name := t.config.ConnConfig.Database; name != "" {
		return name
	}
	return t.config.ConnConfig.User
}

// describe is the DSN in one line.
func (t target) describe() string {
	return fmt.Sprintf("role %q, database %q, on %s", t.config.ConnConfig.User, t.database(), hostNames(hosts(&t.secured.ConnConfig.Config)))
}

// first is the first of the DSN's servers.
func (t target) first() diag.Server {
	return host{t.config.ConnConfig.Host, t.config.ConnConfig.Port, nil}.server()
}
