package diagnosis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoTLS is of a server that says that it has no TLS.
var ErrNoTLS = errors.New("the server says that it has no TLS")

// A ForeignError is of what answers otherwise than a PostgreSQL server to the question for TLS.
type ForeignError struct {
	Protocol string // such as HTTP; empty if it is not known
	Said     string // the begin of its answer, fit to be printed
}

func (e *ForeignError) Error() string {
	if e.Protocol == "" {
		return fmt.Sprintf("what answers speaks another protocol than PostgreSQL's: %s", e.Said)
	}
	return fmt.Sprintf("what answers speaks %s, not PostgreSQL's protocol: %s", e.Protocol, e.Said)
}

// protocols are told by how they begin. Each is seen when a PostgreSQL client comes to the port of another service.
var protocols = []struct{ begin, name string }{
	{"HTTP/", "HTTP"}, {"<", "HTTP"}, {"SSH-", "SSH"}, {"-ERR", "Redis"}, {"-DENIED", "Redis"}, {"220", "SMTP or FTP"},
	{"* OK", "IMAP"}, {"+OK", "POP3"}, {"\x15\x03", "TLS at once"}, {"\x16\x03", "TLS at once"}, {"AMQP", "AMQP"},
	{"\x04\x01", "SQL Server's protocol"}, {"\x00\x00\x00", "another protocol in frames"},
}

// Foreign tells what protocol an answer is of. The fifth byte of MySQL's and MariaDB's greeting is its version, 10; a
// machine that is not let in gets an error packet there.
func Foreign(answer []byte) *ForeignError {
	said := strings.ToValidUTF8(string(answer), "")
	if len(said) > 80 {
		said = strings.ToValidUTF8(said[:80], "")
	}
	e := &ForeignError{Said: fmt.Sprintf("%q", said)}
	if len(answer) > 4 && answer[3] == 0 && (answer[4] == 10 || answer[4] == 0xff) {
		e.Protocol = "MySQL's or MariaDB's protocol"
		return e
	}
	for _, p := range protocols {
		if strings.HasPrefix(string(answer), p.begin) {
			e.Protocol = p.name
			break
		}
	}
	return e
}

// OfTLS is for a handshake that failed.
func OfTLS(s Server, err error) *Diagnosis {
	var foreign *ForeignError
	var refused *pgconn.PgError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &refused):
		return ofEarlyError(s, refused)
	case errors.As(err, &foreign):
		return ofForeign(s, foreign)
	case errors.As(err, &name):
		return ofCertificateName(s, name.Certificate)
	case errors.As(err, &unknown):
		return ofUnknownRoot(s)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Diagnosis{
			Cause: Certificate,
			Meaning: fmt.Sprintf("By this machine's clock (%s) the certificate is not valid: %s. Either the clock is wrong, "+
				"or the server's certificate has not been renewed.", time.Now().UTC().Format(time.RFC3339), invalid.Detail),
			Fix:    SetClock(),
			Status: TLS,
		}
	case errors.Is(err, ErrNoTLS):
		return &Diagnosis{
			Cause: NoTLS,
			Meaning: fmt.Sprintf("What answers at %s has no TLS. Azure's servers always have it: this is another server, a "+
				"proxy, or somebody in between.", s.Address()),
			Fix: []string{"# on a PgBouncer of your own: client_tls_sslmode = require",
				"# to one on this machine, in the DSN:", "sslmode=disable"},
			Status: TLS,
		}
	}
	for _, row := range handshakes {
		if strings.Contains(err.Error(), row.Words) {
			return &Diagnosis{Cause: row.Cause, Meaning: row.Means, Fix: row.Do, Status: TLS}
		}
	}
	return ofHandshake(s, err)
}

// handshakes are what Go says of TLS that did not come about, beside certificates. To add one, add a row and a line
// to the test of TLS.
var handshakes = []struct {
	Words string
	Cause Cause
	Means string
	Do    []string
	Seen  string
}{
	{"protocol version not supported", TLSVersion,
		"Server and client have no version of TLS in common. Azure's servers take 1.2 and 1.3; Go needs 1.2 or newer.",
		[]string{"# update what answers, or the proxy before it; on Azure the server's parameter ssl_min_protocol_version"},
		"https://learn.microsoft.com/azure/postgresql/security/security-tls"},
	{"certificate required", ClientCertificate,
		"The server wants a certificate of the client's, besides the token: a PgBouncer with " +
			"client_tls_sslmode=verify-full, or a server with clientcert=verify-ca.",
		[]string{"# in the DSN:", "sslcert=/path/to/client.crt sslkey=/path/to/client.key"}, "pgbouncer/pgbouncer#105"},
	{"bad certificate", ClientCertificate, "The server does not take the certificate of the client's.",
		[]string{"# in the DSN, the certificate that the server's administrator has given:",
			"sslcert=/path/to/client.crt sslkey=/path/to/client.key"}, "brainsam/pgbouncer#7"},
	{"first record does not look like a TLS handshake", NoDirectTLS,
		"What answers does not take TLS at once, as sslnegotiation=direct has it: PostgreSQL does from version 17 on.",
		[]string{"# take sslnegotiation=direct out of the DSN and of PGSSLNEGOTIATION"},
		"https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-CONNECT-SSLNEGOTIATION"},
	{"handshake failure", Handshake,
		"Server and client have no cipher in common, or the server wants a certificate of the client's.",
		[]string{"# what the server offers: openssl s_client -starttls postgres -connect HOST:PORT"},
		"turbot/steampipe#1417"},
}

func ofHandshake(s Server, err error) *Diagnosis {
	d := &Diagnosis{
		Cause: Handshake,
		Meaning: fmt.Sprintf("TLS with %s did not come about. A firewall or proxy that ends connections, or a server "+
			"that is no PostgreSQL, looks like this.", s.Address()),
		Fix:    []string{"openssl s_client -starttls postgres -connect " + s.Address()},
		Status: TLS,
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		d.Meaning = fmt.Sprintf("%s takes connections but did not answer in time: is it a PostgreSQL server, and not "+
			"overloaded?",
			s.Address())
	}
	return d
}

// ofEarlyError is for a server that answers the question for TLS with an error, as one that cannot start a session
// does.
func ofEarlyError(s Server, e *pgconn.PgError) *Diagnosis {
	d := OfServer(LoginFacts{Server: s}, e)
	d.Meaning = fmt.Sprintf("%s answered the question for TLS with an error, in the clear: a server that has no room "+
		"for a session does so, and so may anybody in between. %s", s.Address(), d.Meaning)
	return d
}

func ofForeign(s Server, e *ForeignError) *Diagnosis {
	if e.Protocol == "TLS at once" {
		return &Diagnosis{
			Cause: TLSAtOnce,
			Meaning: fmt.Sprintf("What answers at %s wants TLS at once, and not after PostgreSQL's question for it: a load "+
				"balancer that ends TLS, or an HTTPS server.", s.Address()),
			Fix: []string{"# in the DSN, if a PostgreSQL 17 or newer is behind it:", "sslnegotiation=direct"}, Status: TLS,
		}
	}
	speaks := "another protocol"
	if e.Protocol != "" {
		speaks = e.Protocol
	}
	return &Diagnosis{
		Cause: NotPostgres,
		Meaning: fmt.Sprintf("What answers at %s is no PostgreSQL server: it speaks %s. The host or the port is another "+
			"service's.", s.Address(), speaks),
		Fix:    []string{"# in the DSN, the server's own name and port (6432 for its PgBouncer):", "port=5432"},
		Status: TLS,
	}
}

func ofCertificateName(s Server, certificate *x509.Certificate) *Diagnosis {
	d := &Diagnosis{
		Cause: CertificateName,
		Meaning: fmt.Sprintf("The server's certificate is for %s, and the DSN calls the server %s. With an address or a "+
			"private name use the server's own name, and have DNS lead it there.", CertificateNames(certificate), s.Host),
		Status: TLS,
	}
	for _, name := range certificate.DNSNames {
		if !strings.HasPrefix(name, "*") {
			d.Fix = []string{"# in the DSN:", "host=" + ConninfoValue(name)}
			return d
		}
	}
	d.Fix = []string{`az postgres flexible-server list --query "[].fullyQualifiedDomainName" -o tsv`,
		"# in the DSN: host= with one of these"}
	return d
}

// CertificateNames are the DNS names and addresses that a certificate is for.
func CertificateNames(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return CommonName(c)
	}
	return strings.Join(names, ", ")
}

// CommonName is a certificate's subject, as short as it goes.
func CommonName(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return c.Subject.String()
}

func ofUnknownRoot(s Server) *Diagnosis {
	install := "sudo apt-get install -y ca-certificates"
	if runtime.GOOS != "linux" {
		install = "# install your operating system's updates, which bring the roots"
	}
	return &Diagnosis{
		Cause: UnknownRoot,
		Meaning: fmt.Sprintf("The certificate of %s was signed by none that is trusted here: the system's roots are "+
			"missing (a container image without ca-certificates), sslrootcert names a file without the right one, or a "+
			"proxy opens TLS on the way.", s.Host),
		Fix: []string{
			install,
			"# or, for a root of your own, in the DSN:",
			"sslrootcert=/path/to/root.crt",
			"# what answers: openssl s_client -starttls postgres -showcerts -connect " + s.Address(),
		},
		Status: TLS,
	}
}
