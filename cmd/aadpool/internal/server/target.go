package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

// A Target is a DSN as it is understood.
type Target struct {
	*dsn.Target
	Secured    *pgxpool.Config // Config with the TLS policy
	Scope      string          // of a token for its hosts
	Secret     string          // the password that is given and not used
	Credential credential.Parameters
}

// ParseTarget reads the DSN. The errors repeat nothing of it. policyErr is set if the DSN is well-formed but would send
// a token in the clear (it is [aadpool.ErrPlaintext] then), or needs tokens of several scopes.
func ParseTarget(connString, scope string) (t Target, policyErr, err error) {
	given, err := dsn.Read(connString)
	if err != nil {
		return Target{}, nil, err
	}
	t = Target{Target: given, Secured: given.Config.Copy(), Secret: given.Config.ConnConfig.Password}
	if t.Credential, err = credential.ReadParameters(given.Own); err != nil {
		return Target{}, nil, err
	}
	t.Scope, err = dsn.Prepare(t.Secured.ConnConfig, given, cmp.Or(scope, t.Credential.Scope))
	if errors.Is(err, dsn.ErrPlaintext) || errors.Is(err, dsn.ErrScopes) {
		return t, err, nil
	}
	return t, nil, err
}

// A Host is one of the servers that the DSN names, and how it is reached.
type Host struct {
	Name string
	Port uint16
	TLS  *tls.Config // nil: in the clear, on this machine
}

// Address is where TCP reaches it.
func (h Host) Address() string { return net.JoinHostPort(h.Name, strconv.Itoa(int(h.Port))) }

// Socket is the path of a Unix socket, or empty.
func (h Host) Socket() string {
	if network, address := pgconn.NetworkAddress(h.Name, h.Port); network == "unix" {
		return address
	}
	return ""
}

// Server is what a diagnosis says of it.
func (h Host) Server() diag.Server {
	return diag.Server{Host: h.Name, Port: h.Port, Socket: h.Socket()}
}

func (h Host) String() string {
	if path := h.Socket(); path != "" {
		return path
	}
	return h.Address()
}

// Hosts are those of a config that the TLS policy has been applied to, in the order in which pgx tries them.
func Hosts(config *pgconn.Config) []Host {
	all := []Host{{config.Host, config.Port, config.TLSConfig}}
	for _, f := range config.Fallbacks {
		if last := all[len(all)-1]; last.Name != f.Host || last.Port != f.Port {
			all = append(all, Host{f.Host, f.Port, f.TLSConfig})
		}
	}
	return all
}

// HostNames are theirs, in one line.
func HostNames(all []Host) string {
	names := make([]string, len(all))
	for i, h := range all {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}

// SSLMode is what a TLS config that pgx has made means, in libpq's words.
func SSLMode(c *tls.Config) string {
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

// IsRaised reports whether the TLS policy has made more of what the DSN asked for.
func (t Target) IsRaised() bool {
	fallsBack := func(c *pgconn.Config) bool {
		withTLS, without := c.TLSConfig != nil, c.TLSConfig == nil
		for _, f := range c.Fallbacks {
			withTLS, without = withTLS || f.TLSConfig != nil, without || f.TLSConfig == nil
		}
		return withTLS && without
	}
	return fallsBack(&t.Config.ConnConfig.Config) &&
		len(t.Secured.ConnConfig.Fallbacks) < len(t.Config.ConnConfig.Fallbacks)
}

// Database is the one that PostgreSQL takes: the role's name where the DSN names none.
func (t Target) Database() string {
	if name := t.Config.ConnConfig.Database; name != "" {
		return name
	}
	return t.Config.ConnConfig.User
}

// Describe is the DSN in one line.
func (t Target) Describe() string {
	return fmt.Sprintf("role %q, database %q, on %s", t.Config.ConnConfig.User, t.Database(),
		HostNames(Hosts(&t.Secured.ConnConfig.Config)))
}

// First is the first of the DSN's servers.
func (t Target) First() diag.Server {
	return Host{t.Config.ConnConfig.Host, t.Config.ConnConfig.Port, nil}.Server()
}
