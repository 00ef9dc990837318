package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// A Certificate is the proxy's own, out of files that are renewed while it serves.
type Certificate struct {
	certFile, keyFile string
	caFile            string // of whom clients must have a certificate; empty: they need none
	logger            *slog.Logger

	mu     sync.Mutex // guards what follows
	loaded *tls.Certificate
	cas    *x509.CertPool // nil: clients need no certificate
	seen   [3]os.FileInfo // the files when they were read last, with success or without
}

// LoadCertificate reads a certificate chain and its key, and the authorities of clients' certificates, if caFile is not
// empty, all in PEM. They are read anew when a client connects and one of
// the files has changed since. What cannot be used is logged to logger, and what was read before goes on.
func LoadCertificate(certFile, keyFile, caFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, caFile: caFile, logger: logger}
	return c, c.Reload()
}

// Reload reads the files, changed or not. After an error the certificate that was read before goes on.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(c.look())
}

// current is the certificate for a client that connects now, and who must have signed that client's, or nil.
func (c *Certificate) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.look()
	if isSame(now[0], c.seen[0]) && isSame(now[1], c.seen[1]) && isSame(now[2], c.seen[2]) {
		return c.loaded, c.cas
	}
	if err := c.read(now); err != nil { // one of the two may be on its way
		c.logger.Warn("the proxy's certificate has changed and cannot be used; going on with the one before", "error", err)
	} else {
		c.logger.Info("the proxy's certificate has changed", "valid_until", c.loaded.Leaf.NotAfter)
	}
	return c.loaded, c.cas
}

// asksClients reports whether clients must have a certificate.
func (c *Certificate) asksClients() bool { return c != nil && c.caFile != "" }

// look returns nil for a file that is not there.
func (c *Certificate) look() (files [3]os.FileInfo) {
	files[0], _ = os.Stat(c.certFile)
	files[1], _ = os.Stat(c.keyFile)
	if c.caFile != "" {
		files[2], _ = os.Stat(c.caFile)
	}
	return files
}

// isSame reports whether a file is what it was. Kubernetes puts another in its place.
func isSame(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// read is Reload, of files that have just been looked at.
func (c *Certificate) read(files [3]os.FileInfo) error {
	c.seen = files
	certificate, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	var cas *x509.CertPool
	if c.caFile != "" {
		if cas, err = readAuthorities(c.caFile); err != nil {
			return err
		}
	}
	c.loaded, c.cas = &certificate, cas
	return nil
}

// readAuthorities returns an error for a file without a certificate: nobody could connect.
func readAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in it", file)
	}
	return cas, nil
}

// clientNames are those by which a client's certificate is known: its subject's common name, DNS names, email addresses
// and URIs.
func clientNames(c *x509.Certificate) []string {
	names := slices.Concat([]string{c.Subject.CommonName}, c.DNSNames, c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// serverTLS is the TLS of one connection: with the certificate that channel binding is to, which a session that is
// resumed would not show. cas are those of clients, or nil.
func serverTLS(certificate *tls.Certificate, cas *x509.CertPool) *tls.Config {
	asked := tls.NoClientCert
	if cas != nil {
		asked = tls.RequireAndVerifyClientCert
	}
	return &tls.Config{
		ClientAuth:             asked,
		ClientCAs:              cas,
		Certificates:           []tls.Certificate{*certificate},
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{pgwire.ALPN},
		SessionTicketsDisabled: true,
	}
}
