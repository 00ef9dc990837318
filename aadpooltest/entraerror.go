package aadpooltest

import (
	"fmt"
	"net/http"
	"time"
)

// entraError is a refusal in Entra's form: https://www.rfc-editor.org/rfc/rfc6749#section-5.2, its code made more
// precise by an AADSTS number, https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
type entraError struct {
	status int
	code   string
	number int
	text   string
}

// The refusals below use Entra's words, as clients see them, for people search the web for them.

func errDisabled(p Principal) *entraError {
	if p.Kind == User {
		return &entraError{http.StatusBadRequest, "invalid_grant", 50057, "The user account is disabled."}
	}
	return &entraError{http.StatusBadRequest, "unauthorized_client", 7000112,
		fmt.Sprintf("Application '%s'(%s) is disabled.", p.ClientID, p.Name)}
}

func errTenantNotFound(tenant string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_request", 90002,
		fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the "+
			"correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions "+
			"for the tenant.", tenant)}
}

func errMissingParameter(name string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_request", 900144,
		fmt.Sprintf("The request body must contain the following parameter: '%s'.", name)}
}

func errApplicationNotFound(clientID, tenant string) *entraError {
	return &entraError{http.StatusBadRequest, "unauthorized_client", 700016,
		fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'. This can happen if the "+
			"application has not been installed by the administrator of the tenant or consented to by any user in the "+
			"tenant. You may have sent your authentication request to the wrong tenant.", clientID, tenant)}
}

func errWrongSecret(clientID string) *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 7000215,
		fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret "+
			"value, not the client secret ID, for a secret added to app '%s'.", clientID)}
}

func errNoClientCredential() *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 7000216,
		"'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."}
}

func errGrantType(grant string) *entraError {
	return &entraError{http.StatusBadRequest, "unsupported_grant_type", 70003,
		fmt.Sprintf("The app requested an unsupported grant type '%s'.", grant)}
}

func errScope(scope string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_scope", 1002012,
		fmt.Sprintf("The provided value for scope %s is not valid. Client credential flows must have a scope value with "+
			"/.default suffixed to the resource identifier (application ID URI).", scope)}
}

func errAssertionSignature() *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 700027,
		"The certificate with identifier used to sign the client assertion is not registered on application, or the " +
			"signature is not valid."}
}

func errAssertionTime() *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 700024,
		"Client assertion is not within its valid time range."}
}

func errAssertionIssuer(issuer string) *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 700211,
		fmt.Sprintf("No matching federated identity record found for presented assertion issuer '%s'.", issuer)}
}

func errAssertionAudience(audience string) *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 700212,
		fmt.Sprintf("No matching federated identity record found for presented assertion audience '%s'.", audience)}
}

func errAssertionSubject(subject string) *entraError {
	return &entraError{http.StatusUnauthorized, "invalid_client", 700213,
		fmt.Sprintf("No matching federated identity record found for presented assertion subject '%s'.", subject)}
}

// noSuchUser is the number of errUserNotFound.
const noSuchUser = 50034

func errUserNotFound(user, tenant string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_grant", noSuchUser,
		fmt.Sprintf("The user account %s does not exist in the %s directory.", user, tenant)}
}

func errAuthorizationPending() *entraError {
	return &entraError{http.StatusBadRequest, "authorization_pending", 70016,
		"OAuth 2.0 device flow error. Authorization is pending. Continue polling."}
}

// errSlowDown has a code that RFC 8628 defines, and no number of Entra's.
func errSlowDown() *entraError {
	return &entraError{http.StatusBadRequest, "slow_down", 70016,
		"OAuth 2.0 device flow error. Authorization is pending. Poll more slowly."}
}

func errDeviceCodeExpired() *entraError {
	return &entraError{http.StatusBadRequest, "expired_token", 70019,
		"Verification code expired. Have the user retry the sign-in."}
}

func errDeclined() *entraError {
	return &entraError{http.StatusBadRequest, "authorization_declined", 65004,
		"User declined to consent to access the app."}
}

func errInvalidGrant(what string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_grant", 70000, "The provided value for the input parameter '" +
		what + "' or scope is not valid."}
}

func errCodeVerifier() *entraError {
	return &entraError{http.StatusBadRequest, "invalid_grant", 501481,
		"The Code_Verifier does not match the code_challenge supplied in the authorization request."}
}

func errRedirectURI(uri, clientID string) *entraError {
	return &entraError{http.StatusBadRequest, "invalid_request", 50011,
		fmt.Sprintf("The redirect URI '%s' specified in the request does not match the redirect URIs configured for the "+
			"application '%s'.", uri, clientID)}
}

func errRefreshTokenRevoked() *entraError {
	return &entraError{http.StatusBadRequest, "invalid_grant", 50173,
		"The provided grant has expired due to it being revoked, a fresh auth token is needed."}
}

// description is the text that people see: the AADSTS number, the reason, and the IDs that support asks for. Up to 2023
// Entra ended each with \r\n, as in azure-cli#22145; since 2024 there are spaces, as in azure-keyvault-emulator#324.
func (e *entraError) description(traceID, correlationID, timestamp string) string {
	return fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", e, traceID, correlationID, timestamp)
}

// answer renders the error as Entra's endpoints do. The correlation ID is the one that the client sent, if any.
func (e *entraError) answer(r *http.Request) answer {
	traceID, correlationID := newUUID(), r.Header.Get("client-request-id")
	if correlationID == "" {
		correlationID = newUUID()
	}
	timestamp := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	return jsonAnswer(e.status, map[string]any{
		"error":             e.code,
		"error_description": e.description(traceID, correlationID, timestamp),
		"error_codes":       []int{e.number},
		"timestamp":         timestamp,
		"trace_id":          traceID,
		"correlation_id":    correlationID,
		"error_uri":         fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.number),
	})
}

// String is the error as one line of text, for clients that do not get JSON.
func (e *entraError) String() string { return fmt.Sprintf("AADSTS%d: %s", e.number, e.text) }
