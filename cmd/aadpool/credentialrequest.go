package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// An entraRequest is a credential's last request to Entra.
type entraRequest struct {
	url      *url.URL // nil: there was none
	answered bool     // with whatever status
	err      error    // nil also while it waits
}

// metadataHost is the Instance Metadata Service's:
// https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
const metadataHost = "169.254.169.254"

// A requestWatch is the part of a credential's pipeline that sees its requests. Azidentity's errors have lost what the
// network said, and a chain that goes on to the next credential tells nobody how the metadata service answered.
type requestWatch struct{ credential *watchedCredential }

// Do is policy.Policy's.
func (r requestWatch) Do(request *policy.Request) (*http.Response, error) {
	if request.Raw().URL.Hostname() == metadataHost {
		return r.askMetadata(request)
	}
	r.credential.setRequest(entraRequest{url: request.Raw().URL})
	response, err := request.Next()
	r.credential.setRequest(entraRequest{url: request.Raw().URL, answered: err == nil, err: err})
	if isLasting(err) {
		return response, lastingError{err}
	}
	return response, err
}

func (r requestWatch) askMetadata(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	said := "no metadata service answers at " + metadataHost + ": this is no machine of Azure's, or it has no identity"
	if err == nil {
		said = fmt.Sprintf("the metadata service at %s answered %s", metadataHost, response.Status)
	}
	r.credential.mu.Lock()
	defer r.credential.mu.Unlock()
	r.credential.machine = said
	return response, err
}

func (w *watchedCredential) setRequest(r entraRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.request = r
}

func (w *watchedCredential) lastRequest() entraRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.request
}

// waitingFor is what the credential is doing, for a person who waits.
func (w *watchedCredential) waitingFor() string {
	if r := w.lastRequest(); r.url != nil && !r.answered {
		return "asking " + r.url.Host
	}
	switch w.flags.Credential {
	case "cli":
		return "asking az"
	case "managed-identity":
		return "asking the metadata service"
	case "default":
		return "asking the default chain (managed identity, az, azd, PowerShell)"
	}
	return "asking " + authorityHost()
}

// isLasting reports whether asking again at once would gain nothing. A pool asks again; a person waits for the answer.
func isLasting(err error) bool {
	if isCertificateFault(err) || errors.Is(err, syscall.ECONNREFUSED) {
		return true
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && !dns.IsTimeout
}

func isCertificateFault(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// A lastingError is one that azcore does not retry after.
type lastingError struct{ error }

func (e lastingError) Unwrap() error { return e.error }

// NonRetriable is azcore's mark.
func (lastingError) NonRetriable() {}

// isInstanceDiscovery reports whether a request asks the public cloud whether it knows the authority:
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
func (r entraRequest) isInstanceDiscovery() bool {
	return r.url != nil && strings.HasPrefix(r.url.Path, "/common/discovery/instance")
}
