package dsn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A tlsMode is what a DSN says about TLS, as far as the policy goes.
type tlsMode int

const (
	tlsOptional   tlsMode = iota // nothing, prefer or allow
	tlsDisabled                  // disable
	tlsRequired                  // require
	tlsVerifyCA                  // verify-ca, or require with a root certificate
	tlsVerifyFull                // verify-full, or a URL's ssl=true; or it cannot be told
)

func (m tlsMode) String() string {
	return [...]string{"prefer", "disable", "require", "verify-ca", "verify-full"}[m]
}

// A tlsPolicy is what a DSN asks for, with the environment and the service file. The zero value is for a DSN that says
// nothing.
type tlsPolicy struct {
	mode     tlsMode
	sslTrue  bool           // the mode is that of ssl=true, of which pgx makes another
	roots    *x509.CertPool // of sslrootcert; nil: the system's
	peer     string         // requirepeer: the user that a Unix socket's server is to run as
	noHostAt string         // the host that pgx takes for want of a name; empty: all have names
}

// policyOf returns the policy of a DSN that has been parsed before. The config that came of it does not tell, and may
// have been changed since; so the DSN is parsed again: with a host that is no Unix socket, for which pgx ignores
// sslmode, and with the usual negotiation, since with the direct one it turns prefer into require.
func policyOf(dsn string) tlsPolicy {
	policy := tlsPolicy{sslTrue: saysSSLTrue(dsn)}
	if config, err := pgconn.ParseConfig(dsn); err == nil {
		policy.peer, policy.noHostAt = config.RuntimeParams["requirepeer"], unnamedHost(dsn, config)
	}
	config := parseAltered(dsn, pair{"host", "server.invalid"}, pair{"port", "5432"}, pair{"sslnegotiation", "postgres"},
		pair{"sslcert", ""}, pair{"sslkey", ""})
	policy.mode = tlsVerifyFull // as for what pgx does not read for a Unix socket: it cannot be told
	if config != nil {
		policy.mode, policy.roots = modeOf(config)
	}
	if policy.sslTrue {
		policy.mode = tlsVerifyFull
	}
	return policy
}

// modeOf tells the sslmode by what pgx has made of it, since pgx does not keep it.
func modeOf(config *pgconn.Config) (mode tlsMode, roots *x509.CertPool) {
	plain := 0
	for _, entry := range entriesOf(config) {
		c := entry.TLSConfig
		switch {
		case c == nil:
			plain, mode = plain+1, tlsDisabled
			continue
		case isVerified(c):
			mode = tlsVerifyFull
		case c.VerifyPeerCertificate != nil:
			mode = tlsVerifyCA
		default:
			mode = tlsRequired
		}
		roots = c.RootCAs
	}
	if plain > 0 && len(config.Fallbacks) > 0 {
		mode = tlsOptional
	}
	return mode, roots
}

// saysSSLTrue reports whether a URL has ssl=true, of which pgx makes sslmode=require, whatever sslmode says before it.
// Other drivers verify the server then.
func saysSSLTrue(dsn string) bool {
	if !IsURL(dsn) {
		return false
	}
	key, ok := keyNotAllowed(replace(dsn, strings.NewReplacer("sslmode", "sslmode_")), []string{})
	return ok && (key == "ssl" || key == "sslmode")
}

// secure changes config so that no connection made from it can send a token in the clear off this machine, nor to a
// server that is verified less than policy asks for. It returns an error, which may be [ErrPlaintext], where only the
// caller can. The rules are in the documentation of package aadpool.
//
// It looks at every entry, because pgx makes one for each host and for each way of connecting to it, and tries them in
// turn. It changes neither a tls.Config nor the Fallbacks slice in place: stdlib passes a shallow copy.
func secure(config *pgconn.Config, policy tlsPolicy) error {
	direct := config.SSLNegotiation == "direct"
	isSecure := func(host string, c *tls.Config) bool { return policy.allows(host, c, direct) }
	if all(config, isSecure) {
		return nil
	}
	var kept []*pgconn.FallbackConfig
	for _, entry := range entriesOf(config) {
		switch {
		case isSecure(entry.Host, entry.TLSConfig):
			kept = append(kept, entry)
		case policy.isNoHost(entry.Host):
			return errNoHost
		case entry.TLSConfig != nil:
			kept = append(kept, policy.verify(entry))
		case isUnixSocket(entry.Host) || policy.mode != tlsOptional:
			return policy.refuse(entry.Host)
		}
		// What is left over is the plaintext half of prefer or allow.
	}
	if len(kept) == 0 {
		return policy.refuse(config.Host)
	}
	config.Host, config.Port, config.TLSConfig = kept[0].Host, kept[0].Port, kept[0].TLSConfig
	config.Fallbacks = kept[1:]
	return nil
}

// entriesOf lists the ways of connecting that config has, in the order in which pgx tries them.
func entriesOf(config *pgconn.Config) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, config.Fallbacks...)
}

// all reports whether ok holds for every entry of config.
func all(config *pgconn.Config, ok func(host string, c *tls.Config) bool) bool {
	if !ok(config.Host, config.TLSConfig) {
		return false
	}
	for _, entry := range config.Fallbacks {
		if !ok(entry.Host, entry.TLSConfig) {
			return false
		}
	}
	return true
}

// plaintextError refuses to go on without TLS.
func plaintextError(host, advice string) error {
	return fault{ErrPlaintext, "refusing to send an access token to " + host + " in the clear: " + advice}
}

// refuse is for a host that the token would go to in the clear.
func (p tlsPolicy) refuse(host string) error {
	switch {
	case isUnixSocket(host):
		return plaintextError(host, fmt.Sprintf("sslmode=%s asks for TLS, which a Unix socket does not have: name the "+
			"server's host, or have the socket's owner checked by requirepeer=USER", p.mode))
	case p.mode == tlsDisabled:
		return plaintextError(host, "use sslmode=verify-full, or remove the sslmode=disable that the DSN, PGSSLMODE or the "+
			"service file says")
	}
	return plaintextError(host, "Host was set on the config without a TLSConfig: put the host into the DSN, or use "+
		"sslmode=verify-full there and set both")
}

// isVerified reports whether there is TLS, and Go verifies the server.
func isVerified(c *tls.Config) bool { return c != nil && !c.InsecureSkipVerify }

func (p tlsPolicy) isNoHost(host string) bool { return p.noHostAt != "" && host == p.noHostAt }

// allows reports whether a token may be sent to a server in this way.
func (p tlsPolicy) allows(host string, c *tls.Config, direct bool) bool {
	switch {
	case p.isNoHost(host):
		return false
	case c == nil && isUnixSocket(host):
		return p.mode < tlsVerifyCA || p.peer != ""
	case c == nil:
		return p.mode == tlsDisabled && isLoopback(host)
	case isVerified(c), p.mode == tlsRequired:
		return true
	case c.VerifyPeerCertificate != nil && p.mode != tlsVerifyCA && (direct || p.sslTrue):
		return c.VerifyConnection != nil // pgx itself sets the other, which checks the chain but not the name
	}
	// A verification that the caller set stands: it is theirs to judge.
	return c.VerifyConnection != nil || c.VerifyPeerCertificate != nil
}

// verify returns entry with the verification that the policy asks for.
func (p tlsPolicy) verify(entry *pgconn.FallbackConfig) *pgconn.FallbackConfig {
	verified := *entry
	c := entry.TLSConfig.Clone()
	verified.TLSConfig = c
	if c.RootCAs == nil {
		c.RootCAs = p.roots
	}
	if p.mode == tlsVerifyCA {
		c.VerifyConnection = verifyChain(c.RootCAs)
		return &verified
	}
	c.InsecureSkipVerify, c.ServerName = false, entry.Host
	return &verified
}

// verifyChain verifies a server's chain, and not its name.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the server has shown no certificate")
		}
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
}

// isUnixSocket reports whether host is the path of a Unix socket, as [pgconn.NetworkAddress] does, which allocates.
func isUnixSocket(host string) bool {
	return strings.HasPrefix(host, "/") || (len(host) >= 3 && 'A' <= host[0] && host[0] <= 'Z' && host[1:3] == `:\`)
}

// isLoopback reports whether what is sent to host stays on this machine, as far as its name tells.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// CheckPlaintext refuses a connection without TLS that has turned out to lead off this machine: "localhost" is what the
// resolver says it is. Its error is [ErrPlaintext].
func CheckPlaintext(conn net.Conn) error {
	if _, ok := conn.(*tls.Conn); ok {
		return nil
	}
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	// A DialFunc of the caller's may go through a tunnel that has no address to show.
	if !ok || addr.IP.IsLoopback() || addr.IP.IsUnspecified() {
		return nil
	}
	return fmt.Errorf("aadpool: %w", plaintextError(addr.String(), "use sslmode=verify-full"))
}
