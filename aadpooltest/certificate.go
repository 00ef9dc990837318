package aadpooltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificateLife is longer than any test or demonstration runs. The key never leaves the process's memory or the
// test's temporary directory.
const certificateLife = 7 * 24 * time.Hour

// newServerCertificate makes a key and a self-signed certificate for 127.0.0.1, ::1 and localhost. Its Leaf is set: a
// client trusts the server by having it among its roots.
func newServerCertificate() (tls.Certificate, error) { return newHostCertificate(nil, nil) }

// newHostCertificate is newServerCertificate for other names and IP addresses, too, signed by the issuer if there is
// one.
func newHostCertificate(issuer *tls.Certificate, hosts []string) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "localhost", Organization: []string{"aadpooltest"}},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:              []string{"localhost"},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return newCertificate(template, issuer)
}

// newCertificate makes a key, and a certificate as the template says, signed by the issuer or, without one, by itself.
func newCertificate(template *x509.Certificate, issuer *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate serial number: %w", err)
	}
	now := time.Now()
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(certificateLife)
	parent, signer := template, crypto.PrivateKey(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read back a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// clusterCertificates are those of one PostgreSQL server.
type clusterCertificates struct {
	server  tls.Certificate // what it shows
	clients tls.Certificate // signs the certificates of clients; its key never leaves this process
}

func newClusterCertificates() (*clusterCertificates, error) {
	server, err := newServerCertificate()
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "aadpooltest clients"},
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	clients, err := newCertificate(template, nil)
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: a root for clients: %w", err)
	}
	return &clusterCertificates{server, clients}, nil
}

// rootsOf returns a pool that trusts the one certificate.
func rootsOf(certificate tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	return pool
}

// certificatePEM is the certificate as a file of sslrootcert or ssl_cert_file holds it.
func certificatePEM(certificate tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw})
}

// privateKeyPEM is the certificate's key as a file of ssl_key_file holds it.
func privateKeyPEM(certificate tls.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode the server key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
