package aadpool

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// secureTransport changes config so that no connection made from it can send a token in the clear off this machine, or
// returns an error where only the caller can. The rules are in the package documentation. connString is what config was
// parsed from.
//
// It looks at every entry, because pgx makes one for each host and for each way of connecting to it, and tries them in
// turn. It changes neither a tls.Config nor the Fallbacks slice in place: stdlib passes a shallow copy.
func secureTransport(config *pgconn.Config, connString string) error {
	if allVerified(config) {
		return nil
	}
	entries := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	directOptional := config.SSLNegotiation == "direct" && !requiresTLS(connString)

	var kept []*pgconn.FallbackConfig
	for _, entry := range entries {
		twin := hasTwin(entries, entry)
		switch {
		case entry.TLSConfig != nil && (twin || directOptional):
			secured := *entry
			secured.TLSConfig = verifyFull(entry.TLSConfig, entry.Host, directOptional)
			kept = append(kept, &secured)
		case entry.TLSConfig != nil:
			kept = append(kept, entry)
		case twin:
			// The plaintext half of prefer or allow goes.
		case isLocal(entry.Host, entry.Port):
			kept = append(kept, entry)
		default:
			return fmt.Errorf("refusing to send an access token to %s in the clear: the DSN, PGSSLMODE or the service file says sslmode=disable; "+
				"remove it, or use sslmode=verify-full", entry.Host)
		}
	}
	config.Host, config.Port, config.TLSConfig = kept[0].Host, kept[0].Port, kept[0].TLSConfig
	config.Fallbacks = kept[1:]
	return nil
}

// allVerified says without allocating that there is nothing to change: the case at each connect.
func allVerified(config *pgconn.Config) bool {
	if config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify {
		return false
	}
	for _, entry := range config.Fallbacks {
		if entry.TLSConfig == nil || entry.TLSConfig.InsecureSkipVerify {
			return false
		}
	}
	return true
}

// hasTwin says that entries reach the same server both with and without TLS: how pgx writes down sslmode prefer (its
// default) and allow.
func hasTwin(entries []*pgconn.FallbackConfig, entry *pgconn.FallbackConfig) bool {
	for _, other := range entries {
		if other.Host == entry.Host && other.Port == entry.Port && (other.TLSConfig == nil) != (entry.TLSConfig == nil) {
			return true
		}
	}
	return false
}

// verifyFull returns c, which pgx made for a server that may be without TLS, as it would be with sslmode=verify-full. A
// verification that the caller set stands: it is theirs to judge. With direct negotiation pgx itself sets one that
// checks the chain but not the name.
func verifyFull(c *tls.Config, host string, direct bool) *tls.Config {
	if !c.InsecureSkipVerify || c.VerifyConnection != nil || (c.VerifyPeerCertificate != nil && !direct) {
		return c
	}
	c = c.Clone()
	c.InsecureSkipVerify = false
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}

// requiresTLS says whether connString, with the environment and the service file, asks for an sslmode of require or
// more. That is not to be seen in a config for sslnegotiation=direct, for which pgx turns prefer into require; so
// connString is parsed again for the usual negotiation.
func requiresTLS(connString string) bool {
	usual := connString + " sslnegotiation=postgres"
	if strings.HasPrefix(connString, "postgres://") || strings.HasPrefix(connString, "postgresql://") {
		separator := "?"
		if strings.Contains(connString, "?") {
			separator = "&"
		}
		usual = connString + separator + "sslnegotiation=postgres"
	}
	config, err := pgconn.ParseConfig(usual)
	if err != nil || config.SSLNegotiation != "postgres" || config.TLSConfig == nil {
		return false
	}
	for _, entry := range config.Fallbacks {
		if entry.TLSConfig == nil {
			return false
		}
	}
	return true
}

// isLocal says whether what is sent to host stays on this machine: a Unix socket or a loopback address.
func isLocal(host string, port uint16) bool {
	if network, _ := pgconn.NetworkAddress(host, port); network == "unix" {
		return true
	}
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
	return fmt.Errorf("refusing to send an access token to %s in the clear: use sslmode=verify-full", addr)
}
