package dsn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A TLSMode is what a DSN says about TLS, as far as the policy goes.
type TLSMode int

const (
	TLSOptional TLSMode = iota // nothing, prefer or allow; or it cannot be told
	TLSDisabled                // disable
	TLSRequired                // require, verify-ca or verify-full
)

// IsVerified reports whether each connection made from config has TLS and verifies the server.
func IsVerified(config *pgconn.Config) bool {
	return all(config, func(_ string, c *tls.Config) bool { return isVerified(c) })
}

// Secure changes config so that no connection made from it can send a token in the clear off this machine, nor to a
// server that is not verified unless mode allows it. It returns an error, which is [ErrPlaintext], where only the
// caller can. The rules are in the documentation of package aadpool.
//
// It looks at every entry, because pgx makes one for each host and for each way of connecting to it, and tries them in
// turn. It changes neither a tls.Config nor the Fallbacks slice in place: stdlib passes a shallow copy.
func Secure(config *pgconn.Config, mode TLSMode) error {
	isSecure := func(host string, c *tls.Config) bool {
		return isSecure(host, c, mode, config.SSLNegotiation == "direct")
	}
	if all(config, isSecure) {
		return nil
	}
	var kept []*pgconn.FallbackConfig
	for _, entry := range entriesOf(config) {
		switch {
		case isSecure(entry.Host, entry.TLSConfig):
			kept = append(kept, entry)
		case entry.TLSConfig != nil:
			kept = append(kept, verifyFull(entry))
		case mode != TLSOptional:
			return refusePlaintext(entry.Host, mode)
		}
		// What is left over is the plaintext half of prefer or allow.
	}
	if len(kept) == 0 {
		return refusePlaintext(config.Host, mode)
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

// ErrPlaintext is what the errors of [Secure] and [CheckPlaintext] are, by errors.Is.
var ErrPlaintext = errors.New("aadpool: refusing to send an access token in the clear")

// A plaintextError refuses to go on without TLS.
type plaintextError struct{ host, advice string }

func refusePlaintext(host string, mode TLSMode) error {
	if mode == TLSDisabled {
		return plaintextError{host, "use sslmode=verify-full, or remove the sslmode=disable that the DSN, PGSSLMODE or the " +
			"service file says"}
	}
	return plaintextError{host, "Host was set on the config without a TLSConfig: put the host into the DSN, or use " +
		"sslmode=verify-full there and set both"}
}

func (e plaintextError) Error() string {
	return "refusing to send an access token to " + e.host + " in the clear: " + e.advice
}

func (plaintextError) Is(target error) bool { return target == ErrPlaintext }

// isVerified reports whether there is TLS, and Go verifies the server.
func isVerified(c *tls.Config) bool { return c != nil && !c.InsecureSkipVerify }

// isSecure reports whether a token may be sent to a server in this way.
func isSecure(host string, c *tls.Config, mode TLSMode, direct bool) bool {
	if c == nil {
		return isUnixSocket(host) || (mode == TLSDisabled && isLoopback(host))
	}
	if isVerified(c) || mode == TLSRequired {
		return true
	}
	// A verification that the caller set stands: it is theirs to judge. With direct negotiation pgx itself sets one,
	// which checks the chain but not the name.
	return c.VerifyConnection != nil || (c.VerifyPeerCertificate != nil && !direct)
}

// verifyFull returns entry as it would be with sslmode=verify-full.
func verifyFull(entry *pgconn.FallbackConfig) *pgconn.FallbackConfig {
	verified := *entry
	verified.TLSConfig = entry.TLSConfig.Clone()
	verified.TLSConfig.InsecureSkipVerify = false
	verified.TLSConfig.ServerName = entry.Host
	return &verified
}

// tlsModeOf tells the sslmode that dsn asks for by what pgx has made of it, since pgx does not keep it.
func tlsModeOf(config *pgconn.Config, dsn string) TLSMode {
	if config.SSLNegotiation == "direct" { // for which pgx turns prefer into require
		var err error
		if config, err = pgconn.ParseConfig(withUsualNegotiation(dsn)); err != nil || config.SSLNegotiation == "direct" {
			return TLSOptional
		}
	}
	plain, encrypted := 0, 0
	for _, entry := range entriesOf(config) {
		switch {
		case isUnixSocket(entry.Host): // which has no TLS, whatever the mode
		case entry.TLSConfig == nil:
			plain++
		default:
			encrypted++
		}
	}
	switch {
	case plain > 0 && encrypted == 0:
		return TLSDisabled
	case encrypted > 0 && plain == 0:
		return TLSRequired
	}
	return TLSOptional
}

func withUsualNegotiation(dsn string) string {
	const usual = "sslnegotiation=postgres"
	switch {
	case !IsURL(dsn):
		return dsn + " " + usual
	case strings.Contains(dsn, "?"):
		return dsn + "&" + usual
	}
	return dsn + "?" + usual
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
	return fmt.Errorf("aadpool: %w", plaintextError{addr.String(), "use sslmode=verify-full"})
}
