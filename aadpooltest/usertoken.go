package aadpooltest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// userGrants are the grants of public clients, whose users have signed in, each with how to find out who that is. MSAL
// for Go has a short name for the one of device codes.
var userGrants = map[string]func(*Authority, *http.Request) (userGrantOwner, *entraError){
	"authorization_code": (*Authority).codeGrant,
	"refresh_token":      (*Authority).refreshGrant,
	"device_code":        (*Authority).deviceGrant,
	"urn:ietf:params:oauth:grant-type:device_code": (*Authority).deviceGrant,
}

// userToken answers a public client with a user's token, and with what renews it:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#successful-response-2.
func (a *Authority) userToken(
	r *http.Request, ownerOf func(*Authority, *http.Request) (userGrantOwner, *entraError),
) answer {
	if tenant := r.PathValue("tenant"); !a.isTenant(tenant) && !isAnyTenant(tenant) {
		return errTenantNotFound(tenant).answer(r)
	}
	owner, refused := ownerOf(a, r)
	if refused == nil && !strings.EqualFold(owner.client, r.PostForm.Get("client_id")) {
		refused = errInvalidGrant("client_id")
	}
	if refused == nil {
		refused = a.checkSignIn(owner.user)
	}
	if refused != nil {
		return refused.answer(r)
	}
	resource, ok := resourceOfScope(r.PostForm.Get("scope"))
	if !ok {
		return errScope(r.PostForm.Get("scope")).answer(r)
	}
	user, _ := a.principalByName(owner.user)
	token, refused := a.issueTo(owner.client, user, resource)
	if refused != nil {
		return refused.answer(r)
	}
	return a.userAnswer(r, owner, user, token, resource)
}

func (a *Authority) userAnswer(
	r *http.Request, owner userGrantOwner, user Principal, token issued, resource string,
) answer {
	body := token.body()
	body["scope"] = resource + "/user_impersonation " + resource + "/.default"
	body["client_info"] = a.clientInfo(user)
	scope := r.PostForm.Get("scope")
	if hasScope(scope, "openid") {
		idToken, err := a.idToken(owner.client, user, token)
		if err != nil {
			return (&entraError{http.StatusInternalServerError, "server_error", 90033, err.Error()}).answer(r)
		}
		body["id_token"] = idToken
	}
	if hasScope(scope, "offline_access") {
		refresh := randomID(60)
		a.mu.Lock()
		a.signIns.refresh[refresh] = owner
		a.mu.Unlock()
		body["refresh_token"] = refresh
	}
	return jsonAnswer(http.StatusOK, body)
}

func hasScope(scopes, scope string) bool {
	for s := range strings.FieldsSeq(scopes) {
		if s == scope {
			return true
		}
	}
	return false
}

// clientInfo names the account, which MSAL keeps tokens by.
func (a *Authority) clientInfo(user Principal) string {
	encoded, _ := json.Marshal(map[string]string{"uid": user.ObjectID, "utid": a.tenantID}) // strings only
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// idToken: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
func (a *Authority) idToken(client string, user Principal, access issued) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"aud":                client,
		"iss":                a.issuerV2(),
		"iat":                access.request.issuedAt.Unix(),
		"nbf":                access.request.issuedAt.Unix(),
		"exp":                access.request.expiresAt().Unix(),
		"name":               user.Name,
		"oid":                user.ObjectID,
		"preferred_username": user.Name,
		"sub":                user.ObjectID,
		"tid":                a.tenantID,
		"ver":                "2.0",
	})
	token.Header["kid"] = a.keyID
	return token.SignedString(a.key)
}

// codeGrant is who signed in at the page. A code is good once, for the client that has the verifier.
func (a *Authority) codeGrant(r *http.Request) (userGrantOwner, *entraError) {
	code := r.PostForm.Get("code")
	a.mu.Lock()
	defer a.mu.Unlock()
	granted, ok := a.signIns.codes[code]
	delete(a.signIns.codes, code)
	if !ok || time.Now().After(granted.expires) || r.PostForm.Get("redirect_uri") != granted.redirectURI {
		return userGrantOwner{}, errInvalidGrant("code")
	}
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(challenge), []byte(granted.challenge)) == 0 {
		return userGrantOwner{}, errCodeVerifier()
	}
	return granted.userGrantOwner, nil
}

// refreshGrant is who renews. Entra answers with a new refresh token and goes on taking the old one.
func (a *Authority) refreshGrant(r *http.Request) (userGrantOwner, *entraError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	owner, ok := a.signIns.refresh[r.PostForm.Get("refresh_token")]
	if !ok {
		return userGrantOwner{}, errRefreshTokenRevoked()
	}
	return owner, nil
}
