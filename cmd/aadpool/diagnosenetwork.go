package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/aadpool/aadpool"
)

func diagnosePolicy(t target, err error) *diagnosis {
	if !errors.Is(err, aadpool.ErrPlaintext) {
		return &diagnosis{
			Cause:   causeWrongScope,
			Meaning: "The hosts of the DSN are in different clouds, and one token does not serve them all.",
			Fix:     []string{"# use a DSN, and a pool, for each cloud"},
			status:  exitUsage,
		}
	}
	h := host{t.config.ConnConfig.Host, t.config.ConnConfig.Port, nil}
	return &diagnosis{
		Cause: causePlaintext,
		Meaning: fmt.Sprintf("The server asks for the token as a cleartext password, so without TLS anyone between here and %s could read it and use it. "+
			"A pool refuses this DSN too.", h.name),
		Fix: []string{
			"# in the DSN, in PGSSLMODE or in the service file, in the place of sslmode=disable:",
			"sslmode=verify-full",
		},
		status: exitPlaintext,
	}
}

func diagnoseDNS(h host) *diagnosis {
	d := &diagnosis{
		Cause:   causeDNS,
		Meaning: fmt.Sprintf("There is no address for %s here: the name is wrong, the server is gone, or it has private access and this network does not use its private DNS zone.", h.name),
		Fix:     []string{`az postgres flexible-server list --query "[].{name:name, host:fullyQualifiedDomainName, state:state}" -o table`},
		status:  exitNetwork,
	}
	if strings.Contains(h.name, ".postgres.") {
		d.Fix = append(d.Fix,
			"# for a server with private access, from a network that is linked to this zone:",
			"az network private-dns zone list --query \"[?contains(name, 'postgres')].name\" -o tsv",
			"nslookup "+h.name)
	}
	return d
}

func diagnoseDial(h host, errs []error) *diagnosis {
	err := errors.Join(errs...)
	if h.socket() != "" {
		return &diagnosis{
			Cause:   causeRefused,
			Meaning: fmt.Sprintf("Nothing listens at the Unix socket %s. Without host= in the DSN, and without PGHOST, it is what PostgreSQL's clients connect to.", h.socket()),
			Fix:     []string{"# in the DSN:", "host=server.postgres.database.azure.com"},
			status:  exitNetwork,
		}
	}
	if strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) {
		return &diagnosis{
			Cause:   causeRefused,
			Meaning: fmt.Sprintf("The machine at %s answers, but nothing listens on port %d: the port is wrong (5432; 6432 for PgBouncer, if it is on), or the server is stopped.", h.name, h.port),
			Fix: []string{
				"az postgres flexible-server show " + serverFlags(h.name, "--name") + " --query state -o tsv",
				"az postgres flexible-server start " + serverFlags(h.name, "--name"),
			},
			status: exitNetwork,
		}
	}
	return &diagnosis{
		Cause:   causeUnreachable,
		Meaning: fmt.Sprintf("No connection to %s: most likely the server's firewall has no rule for this address, or the server has private access and this network no route to it.", h.address()),
		Fix: []string{
			"MY_IP=$(curl -s https://api.ipify.org)",
			"az postgres flexible-server firewall-rule create " + serverFlags(h.name, "--server-name") + ` --name allow-me --start-ip-address "$MY_IP" --end-ip-address "$MY_IP"`,
		},
		status: exitNetwork,
	}
}

func diagnoseTLS(h host, err error) *diagnosis {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return diagnoseCertificateName(h, name.Certificate)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return diagnoseUnknownRoot(h)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return &diagnosis{
			Cause:   causeCertificate,
			Meaning: fmt.Sprintf("By this machine's clock (%s) the certificate is not valid: %s. Either the clock is wrong, or the server's certificate has not been renewed.", time.Now().UTC().Format(time.RFC3339), invalid.Detail),
			Fix:     setClock(),
			status:  exitTLS,
		}
	}
	if errors.Is(err, errNoTLS) {
		return &diagnosis{
			Cause:   causeNoTLS,
			Meaning: fmt.Sprintf("What answers at %s has no TLS. Azure's servers always have it: this is another server, a proxy, or somebody in between.", h.address()),
			Fix:     []string{"# on a PgBouncer of your own: client_tls_sslmode = require", "# to one on this machine, in the DSN:", "sslmode=disable"},
			status:  exitTLS,
		}
	}
	d := &diagnosis{
		Cause:   causeHandshake,
		Meaning: fmt.Sprintf("TLS with %s did not come about. A firewall or proxy that ends connections, or a server that is no PostgreSQL, looks like this.", h.address()),
		Fix:     []string{"openssl s_client -starttls postgres -connect " + h.address()},
		status:  exitTLS,
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		d.Meaning = fmt.Sprintf("%s takes connections but did not answer in time: is it a PostgreSQL server, and not overloaded?", h.address())
	}
	return d
}

func diagnoseCertificateName(h host, certificate *x509.Certificate) *diagnosis {
	d := &diagnosis{
		Cause: causeCertificateName,
		Meaning: fmt.Sprintf("The server's certificate is for %s, and the DSN calls the server %s. With an address or a private name use the server's own name, and have DNS lead it there.",
			certificateNames(certificate), h.name),
		status: exitTLS,
	}
	for _, name := range certificate.DNSNames {
		if !strings.HasPrefix(name, "*") {
			d.Fix = []string{"# in the DSN:", "host=" + name}
			return d
		}
	}
	d.Fix = []string{`az postgres flexible-server list --query "[].fullyQualifiedDomainName" -o tsv`, "# in the DSN: host= with one of these"}
	return d
}

func diagnoseUnknownRoot(h host) *diagnosis {
	install := "sudo apt-get install -y ca-certificates"
	if runtime.GOOS != "linux" {
		install = "# install your operating system's updates, which bring the roots"
	}
	return &diagnosis{
		Cause: causeUnknownRoot,
		Meaning: fmt.Sprintf("The certificate of %s was signed by none that is trusted here: the system's roots are missing (a container image without ca-certificates), "+
			"sslrootcert names a file without the right one, or a proxy opens TLS on the way.", h.name),
		Fix: []string{
			install,
			"# or, for a root of your own, in the DSN:",
			"sslrootcert=/path/to/root.crt",
			"# what answers: openssl s_client -starttls postgres -showcerts -connect " + h.address(),
		},
		status: exitTLS,
	}
}

// setClock is how this machine's clock is set.
func setClock() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"sudo sntp -sS time.apple.com"}
	case "windows":
		return []string{"w32tm /resync"}
	}
	return []string{"date -u", "sudo timedatectl set-ntp true"}
}
