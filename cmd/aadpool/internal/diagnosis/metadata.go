package diagnosis

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// MetadataHost is the Instance Metadata Service's:
// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
const MetadataHost = "169.254.169.254"

// A MetadataRequest is the last one to the machine's metadata service. The zero value: there was none.
type MetadataRequest struct {
	URL    *url.URL
	Status string // such as 403 Forbidden; empty without an answer
	Server string // the header that says what has answered
	Page   bool   // the answer is a page, and no JSON
	Err    error
}

// Answer is how the service has answered, in a sentence's part; empty if it was not asked.
func (m MetadataRequest) Answer() string {
	switch {
	case m.URL == nil:
		return ""
	case m.Status == "":
		return "no metadata service answers at " + MetadataHost + ": this is no machine of Azure's, or it has no identity"
	case m.proxy() != "":
		return fmt.Sprintf("the proxy %s answered %s for the metadata service at %s", m.proxy(), m.Status, MetadataHost)
	}
	return fmt.Sprintf("the metadata service at %s answered %s", MetadataHost, m.Status)
}

// proxy is the host of the proxy that the request went to; empty if it went to none.
func (m MetadataRequest) proxy() string {
	if m.URL == nil {
		return ""
	}
	return proxyFor(m.URL)
}

// isForeign reports whether what has answered is no metadata service.
func (m MetadataRequest) isForeign() bool {
	if m.Status == "" {
		return false
	}
	server := strings.ToLower(m.Server)
	for _, name := range []string{"squid", "proxy", "envoy", "varnish", "zscaler", "bluecoat", "nginx", "apache", "mitm"} {
		if strings.Contains(server, name) {
			return true
		}
	}
	return m.Page && !strings.Contains(server, "imds") && !strings.Contains(server, "microsoft")
}

// ofMetadata is for a managed identity whose question was not answered by this machine's metadata service; nil if it
// was.
func ofMetadata(m MetadataRequest) *Diagnosis {
	proxy := m.proxy()
	if proxy == "" && !m.isForeign() {
		return nil
	}
	d := &Diagnosis{
		Cause: MetadataProxy,
		Fix: []string{"# the metadata service is this machine's own, and never behind a proxy:",
			"export NO_PROXY=" + withMetadata(os.Getenv("NO_PROXY"))},
		Status: Credential,
	}
	answered := "did not answer"
	if m.Status != "" {
		answered = "answered " + m.Status
	}
	if proxy != "" {
		d.Meaning = fmt.Sprintf("It was the proxy %s (HTTP_PROXY) that was asked for the identity's token in the place "+
			"of the metadata service at %s, and it %s.", proxy, MetadataHost, answered)
		return d
	}
	by := ""
	if m.Server != "" {
		by = " (" + m.Server + ")"
	}
	d.Meaning = fmt.Sprintf("What answers at %s is not Azure's metadata service but something else%s, such as a proxy "+
		"of the network: it %s.", MetadataHost, by, answered)
	d.Fix = append(d.Fix, "curl -sS -i -H Metadata:true --noproxy '*' "+
		"'http://169.254.169.254/metadata/instance?api-version=2021-02-01'",
		"# on a machine that is not Azure's: --credential cli, environment or workload-identity")
	return d
}

// withMetadata is NO_PROXY with the metadata service in it.
func withMetadata(noProxy string) string {
	if noProxy == "" {
		return MetadataHost
	}
	return noProxy + "," + MetadataHost
}
