package azuretest

import (
	"crypto/tls"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SpoilTLS changes config as a caller's BeforeConnect may. Each byte is one change: what to do in its low bits, and to
// which entry in its high ones.
func SpoilTLS(config *pgx.ConnConfig, changes []byte) {
	for _, change := range changes[:min(len(changes), 16)] {
		which := int(change >> 4)
		entry := &pgconn.FallbackConfig{}
		if n := len(config.Fallbacks); n > 0 {
			entry = config.Fallbacks[which%n]
		}
		spoilings[change&15](config, entry, which)
	}
}

var spoiledHosts = []string{"db.example", "127.0.0.1", "192.0.2.7", "localhost", "/var/run/postgresql", "::1",
	"LOCALHOST.", ""}

func spoiledHost(which int) string { return spoiledHosts[which%len(spoiledHosts)] }

// spoilings are what SpoilTLS does to a config, and to one of its fallbacks.
var spoilings = [16]func(c *pgx.ConnConfig, entry *pgconn.FallbackConfig, which int){
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, _ int) { c.TLSConfig = nil },
	func(_ *pgx.ConnConfig, entry *pgconn.FallbackConfig, _ int) { entry.TLSConfig = nil },
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, which int) { c.Host = spoiledHost(which) },
	func(_ *pgx.ConnConfig, entry *pgconn.FallbackConfig, which int) { entry.Host = spoiledHost(which) },
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, _ int) { c.TLSConfig = unverified() },
	func(_ *pgx.ConnConfig, entry *pgconn.FallbackConfig, _ int) { entry.TLSConfig = unverified() },
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, which int) {
		c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: spoiledHost(which), Port: 5432})
	},
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, _ int) {
		c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig})
	},
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, _ int) { c.Fallbacks = nil },
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, which int) {
		c.SSLNegotiation = []string{"", "direct", "postgres"}[which%3]
	},
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, which int) { c.Port = uint16(which) },
	func(_ *pgx.ConnConfig, entry *pgconn.FallbackConfig, which int) { entry.Port = uint16(which) },
	func(c *pgx.ConnConfig, entry *pgconn.FallbackConfig, _ int) { c.Host, entry.Host = entry.Host, c.Host },
	func(c *pgx.ConnConfig, entry *pgconn.FallbackConfig, _ int) {
		c.TLSConfig, entry.TLSConfig = entry.TLSConfig, c.TLSConfig
	},
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, which int) {
		c.TLSConfig = &tls.Config{ServerName: spoiledHost(which)}
	},
	func(c *pgx.ConnConfig, _ *pgconn.FallbackConfig, _ int) { // the sixteenth: a verification of the caller's own
		c.TLSConfig = unverified()
		c.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return nil }
	},
}

func unverified() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
