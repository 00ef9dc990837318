package aadpooltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// relayAddress is where a [Server] connects to PostgreSQL from: the line of pg_hba.conf that takes its certificates
// has to be told apart from the one for [Postgres.TLSDSN].
const relayAddress = "127.0.0.2"

// maxRoleName is how much of a role's name PostgreSQL reads, NAMEDATALEN - 1 bytes:
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
const maxRoleName = 63

// relayTLS logs in to PostgreSQL as any role over TCP and TLS, by a client certificate with the role's name. A session
// then finds in pg_stat_ssl and inet_client_addr what it finds on Azure: that its connection is encrypted, and comes
// from somewhere.
type relayTLS struct {
	certificates *clusterCertificates
	roots        *x509.CertPool
	byRole       sync.Map // role name: tls.Certificate
}

// relayTLS returns nil where the system has no relayAddress: Linux has all of 127.0.0.0/8, macOS has 127.0.0.1 alone.
func (c *clusterCertificates) relayTLS() *relayTLS {
	probe, err := net.Listen("tcp", net.JoinHostPort(relayAddress, "0"))
	if err != nil {
		return nil
	}
	_ = probe.Close()
	return &relayTLS{certificates: c, roots: rootsOf(c.server)}
}

// use makes a config connect in this way.
func (r *relayTLS) use(config *pgconn.Config, port int) error {
	certificate, err := r.clientCertificate(config.User)
	if err != nil {
		return err
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(relayAddress)}}
	config.Host, config.Port = "127.0.0.1", uint16(port)
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}
	config.TLSConfig = &tls.Config{
		RootCAs:      r.roots,
		ServerName:   config.Host,
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
	}
	return nil
}

func (r *relayTLS) clientCertificate(role string) (tls.Certificate, error) {
	if made, ok := r.byRole.Load(role); ok {
		return made.(tls.Certificate), nil
	}
	certificate, err := newCertificate(&x509.Certificate{
		Subject:     pkix.Name{CommonName: role[:min(len(role), maxRoleName)]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, &r.certificates.clients)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("aadpooltest: a certificate for the role %q: %w", role, err)
	}
	r.byRole.Store(role, certificate)
	return certificate, nil
}
