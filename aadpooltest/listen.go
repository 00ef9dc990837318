package aadpooltest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
)

// A ListenOption changes where [NewAuthority] or [NewServer] listens, and by which name its clients know it: for
// stand-ins that other machines or containers reach.
type ListenOption func(*listening)

type listening struct {
	address, machineAddress string
	hosts                   []string
	issuer                  *CertificateAuthority
}

func listeningAs(options []ListenOption) listening {
	l := listening{address: "127.0.0.1:0", machineAddress: "127.0.0.1:0"}
	for _, option := range options {
		option(&l)
	}
	return l
}

// WithAddress sets the host and port to listen on. Default: "127.0.0.1:0", a free port that this machine alone reaches.
func WithAddress(address string) ListenOption {
	return func(l *listening) { l.address = address }
}

// WithMachineAddress is WithAddress for what an Azure machine asks without TLS: managed identity endpoints, and the
// proxy of [Authority.ProxyEnv]. A [Server] does not have it.
func WithMachineAddress(address string) ListenOption {
	return func(l *listening) { l.machineAddress = address }
}

// WithHosts sets the names and IP addresses that clients reach it by, beside 127.0.0.1, ::1 and localhost. The
// certificate is valid for all of them; URLs and connection strings have the first one. Default: none.
func WithHosts(hosts ...string) ListenOption {
	return func(l *listening) { l.hosts = hosts }
}

// WithCertificateAuthority has the certificate signed, so that one file is all that clients must trust. Default: the
// certificate is its own.
func WithCertificateAuthority(ca *CertificateAuthority) ListenOption {
	return func(l *listening) { l.issuer = ca }
}

// certificate is for the hosts, and for other names.
func (l listening) certificate(names ...string) (tls.Certificate, error) {
	var issuer *tls.Certificate
	if l.issuer != nil {
		issuer = &l.issuer.certificate
	}
	return newHostCertificate(issuer, append(names, l.hosts...))
}

// roots are what clients of a certificate trust.
func (l listening) roots(certificate tls.Certificate) tls.Certificate {
	if l.issuer != nil {
		return l.issuer.certificate
	}
	return certificate
}

// public is the address of a listener as clients know it. mapped is the port that they reach it
// by, if that is another than its own.
func (l listening) public(listener net.Listener, mapped *atomic.Int32) string {
	host, port, err := net.SplitHostPort(listener.Addr().String())
	switch {
	case err != nil:
		return listener.Addr().String()
	case len(l.hosts) > 0:
		host = l.hosts[0]
	case net.ParseIP(host).IsUnspecified():
		host = "127.0.0.1"
	}
	if p := mapped.Load(); p > 0 {
		port = strconv.Itoa(int(p))
	}
	return net.JoinHostPort(host, port)
}

// local is the address of a listener as this process reaches it, by whatever name and port others do.
func local(listener net.Listener) string { return listening{}.public(listener, new(atomic.Int32)) }

// A CertificateAuthority signs the certificates of stand-ins.
type CertificateAuthority struct{ certificate tls.Certificate }

// NewCertificateAuthority makes one that is valid for a week. Its key is in memory only.
func NewCertificateAuthority() (*CertificateAuthority, error) {
	certificate, err := newCertificate(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "aadpooltest", Organization: []string{"aadpooltest"}},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: make a certificate authority: %w", err)
	}
	return &CertificateAuthority{certificate}, nil
}

// ParseCertificateAuthority takes one that exists, as PEM.
func ParseCertificateAuthority(certificatePEM, keyPEM []byte) (*CertificateAuthority, error) {
	certificate, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil { // which quotes nothing of the key
		return nil, fmt.Errorf("aadpooltest: read a certificate authority: %w", err)
	}
	if !certificate.Leaf.IsCA {
		return nil, errors.New("aadpooltest: read a certificate authority: the certificate is not one that signs others")
	}
	return &CertificateAuthority{certificate}, nil
}

// CertificatePEM returns the certificate that clients have to trust.
func (ca *CertificateAuthority) CertificatePEM() []byte { return certificatePEM(ca.certificate) }

// String says no more than what it is: the key is not for printing.
func (ca *CertificateAuthority) String() string { return "aadpooltest.CertificateAuthority" }

// GoString is String.
func (ca *CertificateAuthority) GoString() string { return ca.String() }
