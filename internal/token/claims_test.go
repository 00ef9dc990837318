package token

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestUserNameByKindOfPrincipal(t *testing.T) {
	for _, row := range []struct {
		file, user string
		kind       Kind
		life       time.Duration
	}{
		{"user.json", "ada@contoso.example", User, 75 * time.Minute},
		{"user_v2.json", "ada@contoso.example", User, 75 * time.Minute},
		{"guest.json", "bo_fabrikam.example#EXT#@contoso.example", User, 75 * time.Minute},
		{"service_principal.json", "orders-api", ServicePrincipal, 65 * time.Minute},
		{"managed_identity_user_assigned.json", "id-orders", ManagedIdentity, 24*time.Hour + 5*time.Minute},
		{"managed_identity_system_assigned.json", "vm-orders-01", ManagedIdentity, 24*time.Hour + 5*time.Minute},
	} {
		t.Run(row.file, func(t *testing.T) {
			c := ReadClaims(azuretest.JWT(readFile(t, "testdata/claims", row.file)))
			require.NoError(t, c.Err())
			user, err := c.UserName()
			require.NoError(t, err)
			assert.Equal(t, row.user, user)
			assert.Equal(t, row.user, c.Principal())
			assert.Equal(t, row.kind, c.Kind())
			assert.Equal(t, row.life, c.Life())
			assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.Audience())
		})
	}
}

func readFile(t *testing.T, dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

func TestTokenThatNamesNoUser(t *testing.T) {
	c := ReadClaims(azuretest.JWT(readFile(t, "testdata/claims", "unnamed.json")))
	require.NoError(t, c.Err())
	_, err := c.UserName()
	require.ErrorContains(t, err, "az ad sp show --id 3c5e7a90-1b2d-4f6a-8c9e-0a1b2c3d4e5f --query displayName")
	require.ErrorContains(t, err, "put user= into the DSN")
	assert.Equal(t, ServicePrincipal, c.Kind(), "as far as one can tell")
	assert.Equal(t, "appid d2a1f0c9-0b7e-4e4c-b6a8-7f9e5c3b1a02", c.Principal())
	assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.Audience())
}

func TestClaimsOfWhatIsNoJWT(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	for _, row := range []struct{ name, token string }{
		{"empty", ""},
		{"opaque", "secret-0a1b2c"},
		{"two parts", "secret.secret"},
		{"four parts", "a.secret.secret.b"},
		{"claims that are not base64url", "a.secret+/=.b"},
		{"claims that are not JSON", "a." + encode([]byte("secret")) + ".b"},
		{"claims that are not an object", "a." + encode([]byte(`["secret"]`)) + ".b"},
		{"claims that are null", "a." + encode([]byte(`null`)) + ".b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := ReadClaims(row.token)
			require.ErrorContains(t, c.Err(), "not a JWT")
			_, err := c.UserName()
			require.ErrorContains(t, err, "not a JWT")
			require.ErrorContains(t, err, "put user= into the DSN")
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestClaimsOfAnUnexpectedTypeCountAsAbsent(t *testing.T) {
	c := ReadClaims(azuretest.JWT(`{"upn": 7, "unique_name": null, "xms_mirid": "///", "app_displayname": ` +
		`"orders-api", "iat": "soon", "exp": 1e300, "aud": {}}`))
	require.NoError(t, c.Err())
	user, err := c.UserName()
	require.NoError(t, err)
	assert.Equal(t, "orders-api", user)
	assert.Zero(t, c.Life())
	assert.Empty(t, c.Audience())
}

func FuzzClaims(f *testing.F) {
	files, err := filepath.Glob("testdata/claims/*.json")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(azuretest.JWT(string(text)))
	}
	f.Add("")
	f.Add("..")
	f.Add(azuretest.JWT(`{"iat":-1,"exp":9e99}`))
	f.Fuzz(func(t *testing.T, token string) {
		c := ReadClaims(token)
		_, _ = c.UserName()
		_, _, _ = c.Principal(), c.Kind(), c.Audience()
		assert.GreaterOrEqual(t, c.Life(), time.Duration(0))
	})
}

func TestTimesInClaims(t *testing.T) {
	const longest = 1 << 40 // seconds since 1970, which float64 and time.Duration still hold
	for _, row := range []struct {
		name, claims string
		issued       time.Time
		life         time.Duration
	}{
		{"whole seconds", `{"iat":1700000000,"exp":1700003600}`, time.Unix(1700000000, 0), time.Hour},
		{"fractions are cut off", `{"iat":1700000000.9,"exp":1700000060.2}`, time.Unix(1700000000, 0), time.Minute},
		{"no claims", `{}`, time.Time{}, 0},
		{"the end alone", `{"exp":1700003600}`, time.Time{}, 0},
		{"the issue alone", `{"iat":1700000000}`, time.Unix(1700000000, 0), 0},
		{"the first second that counts", `{"iat":1,"exp":100}`, time.Unix(1, 0), 99 * time.Second},
		{"an end before the issue", `{"iat":1700003600,"exp":1700000000}`, time.Unix(1700003600, 0), 0},
		{"text", `{"iat":"1700000000","exp":"1700003600"}`, time.Time{}, 0},
		{"negative", `{"iat":-7,"exp":1700003600}`, time.Time{}, 0},
		{"the last second that counts", fmt.Sprintf(`{"iat":%d}`, longest), time.Unix(longest, 0), 0},
		{"far too late", fmt.Sprintf(`{"iat":%d,"exp":%d}`, longest+1, longest+2), time.Time{}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := ReadClaims(azuretest.JWT(row.claims))
			assert.Equal(t, row.issued, c.Issued())
			assert.Equal(t, row.life, c.Life())
		})
	}
}

// What a token says of its principal, and what it leaves out.
func TestRoleOfAToken(t *testing.T) {
	const idp, tid = `"idp":"https://sts.windows.net/8d2b5c3e-1a6f-4e2f-8c0b-5b8f9f6c7d22/"`,
		`"tid":"6e1c0a4b-7d0f-4b51-9f5c-2f6d2f3e8a11"`
	mirid := func(id string) string {
		return `{"idtyp":"app","xms_mirid":"/subscriptions/s/resourcegroups/rg` + id + `"}`
	}
	for _, row := range []struct {
		name, claims string
		role         string // that WithUserFromToken takes; empty: none, for the reason of why
		why          string
		is, isNot    string
	}{
		{"a guest from another tenant", `{"scp":"x",` + idp + `,` + tid + `,"unique_name":"ada@fabrikam.com"}`, "",
			"the guest ada@fabrikam.com, whose role is named like ada_fabrikam.com#EXT#@<tenant>.onmicrosoft.com, as az ad " +
				"signed-in-user show --query userPrincipalName",
			"ada_fabrikam.com#EXT#@contoso.onmicrosoft.com", "ada@fabrikam.com"},
		{"a guest with a token of version 2", `{"scp":"x",` + idp + `,` + tid + `,"preferred_username":"ada@fabrikam.com"}`,
			"",
			"ada_fabrikam.com#EXT#@", "ada_fabrikam.com#EXT#@contoso.onmicrosoft.com",
			"bo_fabrikam.com#EXT#@contoso.onmicrosoft.com"},
		{"a guest with a Microsoft account", `{"scp":"x","idp":"live.com",` + tid +
			`,"unique_name":"live.com#ada@outlook.com"}`, "",
			"ada_outlook.com#EXT#@", "ada_outlook.com#EXT#@contoso.onmicrosoft.com", "live.com#ada@outlook.com"},
		{"a guest of Google", `{"scp":"x","idp":"google.com","email":"ada@gmail.com"}`, "", "ada_gmail.com#EXT#@",
			"ada_gmail.com#EXT#@x.onmicrosoft.com", "ada@gmail.com"},
		{"a guest whose token has the UPN", `{"scp":"x",` + idp + `,` + tid +
			`,"unique_name":"ada@fabrikam.com","upn":"ada_fabrikam.com#EXT#@c.example"}`,
			"ada_fabrikam.com#EXT#@c.example", "", "ada_fabrikam.com#EXT#@c.example", "ada@fabrikam.com"},
		{"a member whose token names the own tenant",
			`{"scp":"x","idp":"https://sts.windows.net/6e1c0a4b-7d0f-4b51-9f5c-2f6d2f3e8a11/",` + tid +
				`,"unique_name":"ada@contoso.com"}`,
			"ada@contoso.com", "", "ada@contoso.com", "Ada@contoso.com"},
		{"a user without a name, in a program", `{"scp":"x","app_displayname":"Microsoft Azure CLI","oid":"o"}`, "",
			"its claims are: app_displayname, oid, scp", "", "Microsoft Azure CLI"},
		{"a deployment slot", mirid("/providers/Microsoft.Web/sites/shop/slots/staging"), "shop/slots/staging", "",
			"shop/slots/staging", "staging"},
		{"a web app", mirid("/providers/Microsoft.Web/sites/shop"), "shop", "", "shop", "sites/shop"},
		{"an endpoint in a workspace", mirid("/providers/Microsoft.MachineLearningServices/workspaces/ws/onlineEndpoints/ep"),
			"ws/onlineEndpoints/ep", "", "ws/onlineEndpoints/ep", "ep"},
		{"an extension of a cluster",
			mirid("/providers/Microsoft.Kubernetes/connectedClusters/c/" +
				"PROVIDERS/Microsoft.KubernetesConfiguration/extensions/flux"), "flux", "", "flux", "c"},
		{"a user-assigned identity", mirid("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-orders/"),
			"id-orders", "", "id-orders", "userAssignedIdentities/id-orders"},
		{"a resource id of another form", `{"idtyp":"app","xms_mirid":"/x/y/vm"}`, "vm", "", "vm", "y"},
		{"nobody", `{"aud":"x"}`, "", "its claims are: aud", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := ReadClaims(azuretest.JWT(row.claims))
			role, err := c.UserName()
			assert.Equal(t, row.role, role)
			if row.role == "" {
				require.ErrorContains(t, err, row.why)
				assert.Equal(t, Redact(err.Error()), err.Error())
			}
			assert.Equal(t, row.is != "", c.IsFor(row.is))
			assert.False(t, c.IsFor(row.isNot))
		})
	}
}

func TestHostileNamesInATokenAreQuoted(t *testing.T) {
	c := ReadClaims(azuretest.JWT(`{"app_displayname":"a\nlevel=ERROR \u001b[2J","aud":"x\u202ey","idtyp":"app"}`))
	assert.Equal(t, `"a\nlevel=ERROR \x1b[2J"`, c.Principal())
	assert.Equal(t, `"x\u202ey"`, c.Audience())
	guest := ReadClaims(azuretest.JWT(`{"scp":"x","idp":"live.com","unique_name":"a\nb@c"}`))
	_, err := guest.UserName()
	assert.NotContains(t, err.Error(), "\n")
}
