package azuretest

import (
	"crypto/tls"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SpoilTLS changes config as a caller's BeforeConnect may. Each byte is one change: what to do in its low bits, and to
// which entry in its high ones.
func SpoilTLS(config *pgx.ConnConfig, changes []byte) {
	hosts := []string{"db.example", "127.0.0.1", "192.0.2.7", "localhost", "/var/run/postgresql", "::1", "LOCALHOST.", ""}
	for _, change := range changes[:min(len(changes), 16)] {
		which := int(change >> 4)
		entry := &pgconn.FallbackConfig{}
		if n := len(config.Fallbacks); n > 0 {
			entry = config.Fallbacks[which%n]
		}
		switch change & 15 {
		case 0:
			config.TLSConfig = nil
		case 1:
			entry.TLSConfig = nil
		case 2:
			config.Host = hosts[which%len(hosts)]
		case 3:
			entry.Host = hosts[which%len(hosts)]
		case 4:
			config.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		case 5:
			entry.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		case 6:
			config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: hosts[which%len(hosts)], Port: 5432})
		case 7:
			config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig})
		case 8:
			config.Fallbacks = nil
		case 9:
			config.SSLNegotiation = []string{"", "direct", "postgres"}[which%3]
		case 10:
			config.Port = uint16(which)
		case 11:
			entry.Port = uint16(which)
		case 12:
			config.Host, entry.Host = entry.Host, config.Host
		case 13:
			config.TLSConfig, entry.TLSConfig = entry.TLSConfig, config.TLSConfig
		case 14:
			config.TLSConfig = &tls.Config{ServerName: hosts[which%len(hosts)]}
		case 15:
			config.TLSConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}
		}
	}
}
