package server

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
)

// A requestWatch is the part of a credential's pipeline that sees its requests. Azidentity's errors have lost what the
// network said, and a chain that goes on to the next credential tells nobody how the metadata service answered.
type requestWatch struct{ credential *WatchedCredential }

// Do is policy.Policy's.
func (r requestWatch) Do(request *policy.Request) (*http.Response, error) {
	if request.Raw().URL.Hostname() == diag.MetadataHost {
		return r.askMetadata(request)
	}
	r.credential.setRequest(diag.Request{URL: request.Raw().URL})
	response, err := request.Next()
	r.credential.setRequest(diag.Request{URL: request.Raw().URL, Answered: err == nil, Err: err})
	if isLasting(err) {
		return response, lastingError{err}
	}
	return response, err
}

func (r requestWatch) askMetadata(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	asked := diag.MetadataRequest{URL: request.Raw().URL, Err: err}
	if err == nil {
		asked.Status, asked.Server = response.Status, response.Header.Get("Server")
		asked.Page = strings.Contains(response.Header.Get("Content-Type"), "html") || response.Header.Get("Via") != ""
	}
	r.credential.mu.Lock()
	defer r.credential.mu.Unlock()
	r.credential.metadata = asked
	return response, err
}

func (w *WatchedCredential) setRequest(r diag.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.request = r
}

func (w *WatchedCredential) lastRequest() diag.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.request
}

// WaitingFor is what the credential is doing, for a person who waits.
func (w *WatchedCredential) WaitingFor() string {
	if r := w.lastRequest(); r.URL != nil && !r.Answered {
		return "asking " + r.URL.Host
	}
	switch w.name {
	case "cli":
		return "asking az"
	case "managed-identity":
		return "asking the metadata service"
	case "default":
		return "asking the default chain (managed identity, az, azd, PowerShell)"
	}
	return "asking " + diag.Authority()
}

// isLasting reports whether asking again at once would gain nothing. A pool asks again; a person waits for the answer.
func isLasting(err error) bool {
	if diag.IsCertificateFault(err) || reach.IsRefused(err) || diag.ProxyStatus(err) != "" {
		return true
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && !dns.IsTimeout
}

// A lastingError is one that azcore does not retry after.
type lastingError struct{ error }

func (e lastingError) Unwrap() error { return e.error }

// NonRetriable is azcore's mark.
func (lastingError) NonRetriable() {}

// Diagnose says why there is no token. err is what the credential has returned.
func (w *WatchedCredential) Diagnose(err error) *diag.Diagnosis {
	w.mu.Lock()
	defer w.mu.Unlock()
	return diag.OfCredential(diag.CredentialFacts{Name: w.name, Request: w.request, Metadata: w.metadata}, err)
}
