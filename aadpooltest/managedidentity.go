package aadpooltest

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	imdsPath       = "/metadata/identity/oauth2/token"
	appServicePath = "/msi/token"
)

// machineHandler serves what Azure gives a machine at addresses that only it can reach, without TLS.
func (a *Authority) machineHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+imdsPath, a.serveIMDS)
	mux.HandleFunc("GET "+appServicePath, a.tokenEndpoint(a.appService))
	mux.HandleFunc("GET "+gitHubPath+"idtoken", a.tokenEndpoint(a.gitHubToken))
	a.handleTools(mux)
	return a.proxied(mux)
}

// SetSystemAssigned makes the managed identity of that name the machine's system-assigned one: what IMDS answers for
// when a request names no identity. Without it IMDS answers for the only managed identity there is, and refuses when
// there are several, as Azure does.
func (a *Authority) SetSystemAssigned(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.systemAssigned = name
}

// resourceID is the Azure resource that a managed identity's token names: the machine for a system-assigned identity,
// else the identity itself.
func (a *Authority) resourceID(p Principal) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	provider := "Microsoft.ManagedIdentity/userAssignedIdentities/"
	if p.Name == a.systemAssigned {
		provider = "Microsoft.Compute/virtualMachines/"
	}
	return "/subscriptions/" + a.subscriptionID + "/resourcegroups/aadpooltest/providers/" + provider + p.Name
}

// serveIMDS answers as the Instance Metadata Service does:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.
func (a *Authority) serveIMDS(w http.ResponseWriter, r *http.Request) {
	// DefaultAzureCredential leaves the header out to find out whether there is an IMDS: that is no token request.
	if !strings.EqualFold(r.Header.Get("Metadata"), "true") {
		imdsError("Required metadata header not specified").writeTo(w)
		return
	}
	a.tokenEndpoint(a.imds)(w, r)
}

func (a *Authority) imds(r *http.Request) answer {
	p, problem := a.imdsPrincipal(r)
	if problem != "" {
		return imdsError(problem)
	}
	return a.managedIdentityAnswer(p, r)
}

func imdsError(description string) answer {
	return jsonAnswer(http.StatusBadRequest, map[string]string{
		"error": "invalid_request", "error_description": description,
	})
}

func (a *Authority) imdsPrincipal(r *http.Request) (p Principal, problem string) {
	p, named, found := a.namedIdentity(r)
	switch {
	case found:
		return p, ""
	case named:
		return Principal{}, "Identity not found"
	}
	return a.machineIdentity()
}

// machineIdentity is the identity of a request that names none.
func (a *Authority) machineIdentity() (p Principal, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var identities []Principal
	for _, p := range a.principals {
		if p.Kind != ManagedIdentity {
			continue
		}
		if p.Name == a.systemAssigned {
			return p, ""
		}
		identities = append(identities, p)
	}
	switch len(identities) {
	case 0:
		return Principal{}, "Identity not found"
	case 1:
		return identities[0], ""
	}
	return Principal{}, "Multiple user assigned identities exist, please specify the clientId / resourceId " +
		"of the identity in the token request"
}

// namedIdentity finds the identity that a request names by one of its IDs, if it names any.
func (a *Authority) namedIdentity(r *http.Request) (p Principal, named, found bool) {
	match := identitySelector(r.Form)
	if match == nil {
		return Principal{}, false, false
	}
	p, found = a.find(func(p Principal) bool { return p.Kind == ManagedIdentity && match(p) })
	return p, true, found
}

// identitySelector returns nil for a request that names no identity. A resource ID, which IMDS and App Service call by
// different names, is known by its last segment.
func identitySelector(form url.Values) func(Principal) bool {
	if id := form.Get("client_id"); id != "" {
		return func(p Principal) bool { return strings.EqualFold(p.ClientID, id) }
	}
	if id := form.Get("object_id"); id != "" {
		return func(p Principal) bool { return strings.EqualFold(p.ObjectID, id) }
	}
	if id := cmp.Or(form.Get("msi_res_id"), form.Get("mi_res_id")); id != "" {
		name := id[strings.LastIndexByte(id, '/')+1:]
		return func(p Principal) bool { return strings.EqualFold(p.Name, name) }
	}
	return nil
}

// AppServiceEnv returns the environment that App Service, Functions and Container Apps give to a process for its
// managed identity, which azidentity's ManagedIdentityCredential reads: IDENTITY_ENDPOINT, which is plain HTTP, and
// IDENTITY_HEADER. A request that names no identity gets p's token.
func (a *Authority) AppServiceEnv(p Principal) map[string]string {
	return map[string]string{
		"IDENTITY_ENDPOINT": a.machineURL() + appServicePath,
		"IDENTITY_HEADER":   a.machineSecret(p),
	}
}

// machineSecret makes a secret that stands for the principal of that name in later requests.
func (a *Authority) machineSecret(p Principal) string {
	secret := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.machineSecrets[secret] = p.Name
	return secret
}

func (a *Authority) principalByMachineSecret(secret string) (Principal, bool) {
	a.mu.Lock()
	name, ok := a.machineSecrets[secret]
	a.mu.Unlock()
	if !ok {
		return Principal{}, false
	}
	return a.principalByName(name)
}

// appService answers per
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
func (a *Authority) appService(r *http.Request) answer {
	p, ok := a.principalByMachineSecret(r.Header.Get("X-IDENTITY-HEADER"))
	if !ok {
		return appServiceError(http.StatusUnauthorized, "The X-IDENTITY-HEADER is missing or wrong.")
	}
	switch q, named, found := a.namedIdentity(r); {
	case found:
		return a.managedIdentityAnswer(q, r)
	case named:
		return appServiceError(http.StatusBadRequest,
			"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
	}
	return a.managedIdentityAnswer(p, r)
}

func appServiceError(status int, message string) answer {
	return jsonAnswer(status, map[string]any{"statusCode": status, "message": message})
}

// managedIdentityAnswer is the same from IMDS and from App Service: numbers are strings, and the expiry is absolute.
func (a *Authority) managedIdentityAnswer(p Principal, r *http.Request) answer {
	resource := r.Form.Get("resource")
	if resource == "" {
		return imdsError("Required audience parameter not specified")
	}
	token, refused := a.issue(p, resource)
	if refused != nil {
		return refused.answer(r)
	}
	body := map[string]string{
		"access_token": token.token,
		"client_id":    p.ClientID,
		"expires_in":   strconv.FormatInt(token.expiresIn(), 10),
		"expires_on":   strconv.FormatInt(token.request.expiresAt().Unix(), 10),
		"not_before":   strconv.FormatInt(token.request.issuedAt.Unix(), 10),
		"resource":     resource,
		"token_type":   "Bearer",
	}
	if token.refreshIn > 0 {
		body["refresh_in"] = strconv.FormatInt(int64(token.refreshIn/time.Second), 10)
	}
	return jsonAnswer(http.StatusOK, body)
}
