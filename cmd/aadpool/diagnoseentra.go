package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
)

// diagnoseRequest says what has come between a credential and Entra; nil if nothing has.
func diagnoseRequest(r entraRequest) *diagnosis {
	if r.url == nil || r.answered {
		return nil
	}
	host := r.url.Hostname()
	if r.isInstanceDiscovery() && host != authorityHostName() {
		return diagnoseInstanceDiscovery(host)
	}
	d := &diagnosis{
		Cause:   causeEntraUnreachable,
		Meaning: fmt.Sprintf("The credential gets no answer from %s: a firewall lets nothing out to it, a proxy is needed, or Entra itself is down.", r.url.Host),
		Fix:     reachEntra(r.url.Host),
		status:  exitCredential,
	}
	if dns, ok := errors.AsType[*net.DNSError](r.err); ok && !dns.IsTimeout {
		d.Cause, d.Fix = causeEntraDNS, resolveEntra(host)
		d.Meaning = fmt.Sprintf("There is no address for %s here: the network has no DNS for it, or no way out; or the name is wrong.", host)
	}
	if isCertificateFault(r.err) {
		d.Cause, d.Fix = causeEntraTrust, trustEntra(r.url.Host)
		d.Meaning = fmt.Sprintf("The certificate of what answers as %s is not trusted here: a proxy opens TLS on the way, or the roots are missing (a container image without ca-certificates). "+
			"sslrootcert= is about the database server alone.", host)
	}
	return d
}

func diagnoseInstanceDiscovery(host string) *diagnosis {
	return &diagnosis{
		Cause: causeDiscovery,
		Meaning: fmt.Sprintf("The credential asks %s whether it knows the authority %s, and cannot reach it. A private or disconnected cloud does without that.",
			host, authorityHostName()),
		Fix: []string{
			"aadpool check --disable-instance-discovery",
			"# for all commands: export AADPOOL_DISABLE_INSTANCE_DISCOVERY=true",
			"# in the program: DisableInstanceDiscovery: true in the options of azidentity's credential",
		},
		status: exitCredential,
	}
}

func reachEntra(host string) []string {
	return []string{
		"curl -sS -o /dev/null -w '%{http_code}\\n' https://" + host + "/common/.well-known/openid-configuration",
		"# through a proxy: export HTTPS_PROXY=http://PROXY:PORT NO_PROXY=" + metadataHost,
		"# a firewall of Azure's lets out to Entra by the service tag AzureActiveDirectory",
	}
}

func resolveEntra(host string) []string {
	fix := []string{"nslookup " + host, "# through a proxy, which resolves by itself: export HTTPS_PROXY=http://PROXY:PORT NO_PROXY=" + metadataHost}
	if host != publicAuthority {
		fix = append(fix, "# AZURE_AUTHORITY_HOST says "+host+"; Azure's public cloud: https://"+publicAuthority)
	}
	return fix
}

func trustEntra(address string) []string {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "443")
	}
	fix := []string{"# who has signed it:", "openssl s_client -showcerts -connect " + address + " </dev/null"}
	switch runtime.GOOS {
	case "darwin", "windows": // where Go asks the system, and heeds no variable
		return append(fix, "# add the root of the proxy to the roots that the system trusts; for az: export REQUESTS_CA_BUNDLE=/path/to/roots.pem")
	}
	return append(fix,
		"# if that is your company's proxy, trust its root besides the system's:",
		"cat "+systemRoots[0]+" proxy-root.pem >roots.pem",
		"export SSL_CERT_FILE=$PWD/roots.pem REQUESTS_CA_BUNDLE=$PWD/roots.pem   # the second is az's",
		"# if the roots are missing: sudo apt-get install -y ca-certificates")
}

const publicAuthority = "login.microsoftonline.com"

// authorityHostName is the name of Entra, as the environment has it.
func authorityHostName() string {
	u, err := url.Parse(authorityHost())
	if err != nil || u.Hostname() == "" {
		return publicAuthority
	}
	return u.Hostname()
}
