package aadpool

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// sslMode is what the DSN, the environment and the service file say about TLS, as far as it matters here.
type sslMode int

const (
	sslOptional sslMode = iota // nothing, prefer or allow; or it cannot be told
	sslDisabled
	sslRequired // require, verify-ca or verify-full
)

// secureTransport changes config so that no connection made from it can send a token in the clear off this machine, nor
// to a server that is not verified unless mode allows it. It returns an error where only the caller can. The rules are
// in the package documentation.
//
// It looks at every entry, because pgx makes one for each host and for each way of connecting to it, and tries them in
// turn. It changes neither a tls.Config nor the Fallbacks slice in place: stdlib passes a shallow copy.
func secureTransport(config *pgconn.Config, mode func() sslMode) error {
	if all(config, func(_ string, c *tls.Config) bool { return isVerified(c) }) {
		return nil // the case at each connect, once a pool has been configured
	}
	ssl := mode()
	isSecure := func(host string, c *tls.Config) bool {
		return isSecure(host, c, ssl, config.SSLNegotiation == "direct")
	}
	if all(config, isSecure) {
		return nil
	}

	entries := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	var kept []*pgconn.FallbackConfig
	for _, entry := range entries {
		switch {
		case isSecure(entry.Host, entry.TLSConfig):
			kept = append(kept, entry)
		case entry.TLSConfig != nil:
			kept = append(kept, verifyFull(entry))
		case ssl != sslOptional:
			return errPlaintext(entry.Host)
		}
		// What is left over is the plaintext half of prefer or allow.
	}
	if len(kept) == 0 {
		return errPlaintext(config.Host)
	}
	config.Host, config.Port, config.TLSConfig = kept[0].Host, kept[0].Port, kept[0].TLSConfig
	config.Fallbacks = kept[1:]
	return nil
}

// all says whether ok holds for every entry of config.
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

func errPlaintext(host string) error {
	return fmt.Errorf("refusing to send an access token to %s in the clear: use sslmode=verify-full, or remove the sslmode=disable "+
		"that the DSN, PGSSLMODE or the service file says (if none does, Host has been set on the config without a TLSConfig: put it into the DSN)", host)
}

// isVerified says that there is TLS, and that Go verifies the server.
func isVerified(c *tls.Config) bool { return c != nil && !c.InsecureSkipVerify }

// isSecure says that a token may be sent to a server in this way.
func isSecure(host string, c *tls.Config, ssl sslMode, direct bool) bool {
	if c == nil {
		return isUnixSocket(host) || (ssl == sslDisabled && isLoopback(host))
	}
	if isVerified(c) || ssl == sslRequired {
		return true
	}
	// A verification that the caller set stands: it is theirs to judge. With direct negotiation pgx itself sets one, which
	// checks the chain but not the name.
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

// sslModeOf tells the sslmode that connString asks for, with the environment and the service file. pgx does not keep it,
// and what it makes of it may have been changed since; so connString is parsed again.
func sslModeOf(connString string) sslMode {
	config, err := pgconn.ParseConfig(connString)
	if err == nil && config.SSLNegotiation == "direct" { // for which pgx turns prefer into require
		config, err = pgconn.ParseConfig(withUsualNegotiation(connString))
	}
	if err != nil || config.SSLNegotiation == "direct" {
		return sslOptional
	}
	plain, encrypted := 0, 0
	for _, entry := range append(config.Fallbacks, &pgconn.FallbackConfig{Host: config.Host, TLSConfig: config.TLSConfig}) {
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
		return sslDisabled
	case encrypted > 0 && plain == 0:
		return sslRequired
	}
	return sslOptional
}

func withUsualNegotiation(connString string) string {
	const usual = "sslnegotiation=postgres"
	switch {
	case !isURL(connString):
		return connString + " " + usual
	case strings.Contains(connString, "?"):
		return connString + "&" + usual
	}
	return connString + "?" + usual
}

// isUnixSocket says of a host what [pgconn.NetworkAddress] does, which allocates: an absolute path is a Unix socket's.
func isUnixSocket(host string) bool {
	return strings.HasPrefix(host, "/") || (len(host) >= 3 && 'A' <= host[0] && host[0] <= 'Z' && host[1:3] == `:\`)
}

// isLoopback says whether what is sent to host stays on this machine, as far as its name tells.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// checkPlaintext refuses a connection without TLS that has turned out to lead off this machine: "localhost" is what the
// resolver says it is.
func checkPlaintext(conn net.Conn) error {
	if _, ok := conn.(*tls.Conn); ok {
		return nil
	}
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	// A DialFunc of the caller's may go through a tunnel that has no address to show.
	if !ok || addr.IP.IsLoopback() || addr.IP.IsUnspecified() {
		return nil
	}
	return fmt.Errorf("aadpool: refusing to send an access token to %s in the clear: use sslmode=verify-full", addr)
}
