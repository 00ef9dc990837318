package proxy

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// A Certificate is the proxy's own, out of files that are renewed while it serves.
type Certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu     sync.Mutex // guards what follows
	loaded *tls.Certificate
	seen   [2]os.FileInfo // the files when they were read last, with success or without
}

// LoadCertificate reads a certificate chain and its key, in PEM. They are read anew when a client connects and one of
// the files has changed since. What cannot be used is logged to logger, and what was read before goes on.
func LoadCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	return c, c.Reload()
}

// Reload reads the files, changed or not. After an error the certificate that was read before goes on.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(c.look())
}

// current is the certificate for a client that connects now.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.look()
	if isSame(now[0], c.seen[0]) && isSame(now[1], c.seen[1]) {
		return c.loaded
	}
	if err := c.read(now); err != nil { // one of the two may be on its way
		c.logger.Warn("the proxy's certificate has changed and cannot be used; going on with the one before", "error", err)
	} else {
		c.logger.Info("the proxy's certificate has changed", "valid_until", c.loaded.Leaf.NotAfter)
	}
	return c.loaded
}

// look returns nil for a file that is not there.
func (c *Certificate) look() (files [2]os.FileInfo) {
	files[0], _ = os.Stat(c.certFile)
	files[1], _ = os.Stat(c.keyFile)
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
func (c *Certificate) read(files [2]os.FileInfo) error {
	c.seen = files
	certificate, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.loaded = &certificate
	return nil
}

// serverTLS is the TLS of one connection: with the certificate that channel binding is to, which a session that is
// resumed would not show.
func serverTLS(certificate *tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{*certificate},
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{pgwire.ALPN},
		SessionTicketsDisabled: true,
	}
}
