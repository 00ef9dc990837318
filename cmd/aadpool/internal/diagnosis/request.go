package diagnosis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// A Request is a credential's last request to Entra.
type Request struct {
	URL      *url.URL // nil: there was none
	Answered bool     // with whatever status
	Err      error    // nil also while it waits
}

// proxyFor is the host of the proxy that the environment has a request to u go through; empty if there is none.
func proxyFor(u *url.URL) string {
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(u)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// ofRequest says what has come between a credential and Entra; nil if nothing has.
func ofRequest(r Request) *Diagnosis {
	if r.URL == nil || r.Answered {
		return nil
	}
	host := r.URL.Hostname()
	if d := ofProxy(r, host); d != nil {
		return d
	}
	if r.isInstanceDiscovery() && host != authorityHostName() {
		return ofInstanceDiscovery(host)
	}
	d := &Diagnosis{
		Cause: EntraUnreachable,
		Meaning: fmt.Sprintf("The credential gets no answer from %s: a firewall lets nothing out to it, a proxy is "+
			"needed, or Entra itself is down.", r.URL.Host),
		Fix:    reachEntra(r.URL.Host),
		Status: Credential,
	}
	if dns, ok := errors.AsType[*net.DNSError](r.Err); ok && !dns.IsTimeout {
		d.Cause, d.Fix = EntraDNS, resolveEntra(host)
		d.Meaning = fmt.Sprintf("There is no address for %s here: the network has no DNS for it, or no way out; or the "+
			"name is wrong.", host)
	}
	if IsCertificateFault(r.Err) {
		d.Cause, d.Fix = EntraTrust, trustEntra(r.URL.Host)
		d.Meaning = fmt.Sprintf("The certificate of what answers as %s is not trusted here: a proxy opens TLS on the "+
			"way, or the roots are missing (a container image without ca-certificates). sslrootcert= is about the database "+
			"server alone.",
			host)
	}
	return d
}

// IsCertificateFault reports whether a certificate was not accepted.
func IsCertificateFault(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// ofProxy is for a proxy that does not let a request through to Entra, or is not there; nil if there is none, or it
// does.
func ofProxy(r Request, host string) *Diagnosis {
	proxy := proxyFor(r.URL)
	if proxy == "" || r.Err == nil || IsCertificateFault(r.Err) {
		return nil
	}
	d := &Diagnosis{Cause: EntraProxy, Fix: proxySettings(), Status: Credential}
	if op, ok := errors.AsType[*net.OpError](r.Err); ok && (op.Op == "proxyconnect" || op.Op == "dial") {
		d.Meaning = fmt.Sprintf("The proxy %s, by which HTTPS_PROXY has requests go to %s, cannot be reached.", proxy, host)
		return d
	}
	if status := ProxyStatus(r.Err); status != "" {
		d.Meaning = fmt.Sprintf("The proxy %s, by which HTTPS_PROXY has requests go to %s, lets this one not through: it "+
			"answered %s.", proxy, host, status)
		return d
	}
	return nil
}

// ProxyStatus is the status with which a proxy has refused to make a way, as net/http's error has it; empty if the
// error is another.
func ProxyStatus(err error) string {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return ""
	}
	for code := 300; code < 600; code++ {
		if text := http.StatusText(code); text != "" && strings.EqualFold(failed.Err.Error(), text) {
			return fmt.Sprintf("%d %s", code, text)
		}
	}
	return ""
}

func ofInstanceDiscovery(host string) *Diagnosis {
	return &Diagnosis{
		Cause: Discovery,
		Meaning: fmt.Sprintf("The credential asks %s whether it knows the authority %s, and cannot reach it. A private "+
			"or disconnected cloud does without that.", host, authorityHostName()),
		Fix: []string{
			"aadpool check --disable-instance-discovery",
			"# for all commands: export AADPOOL_DISABLE_INSTANCE_DISCOVERY=true",
			"# in the program: DisableInstanceDiscovery: true in the options of azidentity's credential",
		},
		Status: Credential,
	}
}

// isInstanceDiscovery reports whether a request asks the public cloud whether it knows the authority:
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
func (r Request) isInstanceDiscovery() bool {
	return r.URL != nil && strings.HasPrefix(r.URL.Path, "/common/discovery/instance")
}

func proxySettings() []string {
	return []string{
		"# a proxy that wants a password gets it in the address, with %40 for an @:",
		"export HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT",
		"# have it let login.microsoftonline.com through (port 443), or go around it where there is a way:",
		"export NO_PROXY=" + withMetadata(authorityHostName()),
	}
}

func reachEntra(host string) []string {
	return []string{
		"curl -sS -o /dev/null -w '%{http_code}\\n' https://" + host + "/common/.well-known/openid-configuration",
		"# through a proxy: export HTTPS_PROXY=http://PROXY:PORT NO_PROXY=" + MetadataHost,
		"# a firewall of Azure's lets out to Entra by the service tag AzureActiveDirectory",
	}
}

func resolveEntra(host string) []string {
	fix := []string{"nslookup " + host, "# through a proxy, which resolves by itself:",
		"# export HTTPS_PROXY=http://PROXY:PORT NO_PROXY=" + MetadataHost}
	if host != PublicAuthority {
		fix = append(fix, "# AZURE_AUTHORITY_HOST says "+host+"; Azure's public cloud: https://"+PublicAuthority)
	}
	return fix
}

// systemRoots is where Debian and most others keep the roots.
const systemRoots = "/etc/ssl/certs/ca-certificates.crt"

func trustEntra(address string) []string {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "443")
	}
	fix := []string{"# who has signed it:", "openssl s_client -showcerts -connect " + address + " </dev/null"}
	switch runtime.GOOS {
	case "darwin", "windows": // where Go asks the system, and heeds no variable
		return append(fix, "# add the root of the proxy to the roots that the system trusts;",
			"# for az: export REQUESTS_CA_BUNDLE=/path/to/roots.pem")
	}
	return append(fix,
		"# if that is your company's proxy, trust its root besides the system's:",
		"cat "+systemRoots+" proxy-root.pem >roots.pem",
		"export SSL_CERT_FILE=$PWD/roots.pem REQUESTS_CA_BUNDLE=$PWD/roots.pem   # the second is az's",
		"# if the roots are missing: sudo apt-get install -y ca-certificates")
}

// PublicAuthority is Entra of Azure's public cloud.
const PublicAuthority = "login.microsoftonline.com"

// Authority is the address of Entra, as the environment has it.
func Authority() string {
	if h := os.Getenv("AZURE_AUTHORITY_HOST"); strings.HasPrefix(h, "https://") {
		return strings.TrimSuffix(h, "/")
	}
	return "https://" + PublicAuthority
}

func authorityHostName() string {
	u, err := url.Parse(Authority())
	if err != nil || u.Hostname() == "" {
		return PublicAuthority
	}
	return u.Hostname()
}
