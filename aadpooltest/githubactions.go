package aadpooltest

import (
	"net/http"
	"strings"
	"time"
)

// GitHub Actions, as a job sees it:
// https://docs.github.com/actions/reference/security/oidc
const (
	gitHubIssuer = "https://token.actions.githubusercontent.com"
	gitHubPath   = "/github/"
	// gitHubTokenLife is short: whoever renews an access token needs a new assertion for it.
	gitHubTokenLife = 5 * time.Minute
)

func gitHubSubject(p Principal) string { return "repo:aadpooltest/" + p.Name + ":ref:refs/heads/main" }

// GitHubActionsEnv returns the environment of a job of GitHub Actions with the permission id-token: write, whose
// repository is trusted by p: ACTIONS_ID_TOKEN_REQUEST_URL, which is plain HTTP here, ACTIONS_ID_TOKEN_REQUEST_TOKEN,
// AZURE_AUTHORITY_HOST, AZURE_CLIENT_ID and AZURE_TENANT_ID. The assertions that the URL gives are valid for five
// minutes, for the audience that is asked for. p is a [ServicePrincipal] or a [ManagedIdentity] that
// [Authority.Register] returned.
func (a *Authority) GitHubActionsEnv(p Principal) map[string]string {
	secret := a.machineSecret(p)
	return map[string]string{
		"ACTIONS_ID_TOKEN_REQUEST_URL":   a.machineURL() + gitHubPath + "idtoken?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN": secret,
		"AZURE_AUTHORITY_HOST":           a.URL(),
		"AZURE_CLIENT_ID":                p.ClientID,
		"AZURE_TENANT_ID":                a.tenantID,
	}
}

// gitHubToken gives a job its ID token.
func (a *Authority) gitHubToken(r *http.Request) answer {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	p, ok := a.principalByMachineSecret(secret)
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return jsonAnswer(http.StatusUnauthorized, map[string]string{"message": "the token of the request is not valid"})
	}
	audience := r.Form.Get("audience")
	if audience == "" {
		audience = "https://github.com/aadpooltest"
	}
	signed, err := a.signFederated(assertion{gitHubIssuer, gitHubSubject(p), audience, gitHubTokenLife}, time.Now())
	if err != nil {
		return jsonAnswer(http.StatusInternalServerError, map[string]string{"message": err.Error()})
	}
	return jsonAnswer(http.StatusOK, map[string]any{"count": len(signed), "value": signed})
}
