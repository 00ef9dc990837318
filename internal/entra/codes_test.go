package entra

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/internal/token"
)

func TestEachCodeIsSaidOnceAndSaysWhatToDo(t *testing.T) {
	seen, count := map[string]bool{}, 0
	for _, c := range Codes {
		for _, number := range c.Numbers {
			assert.False(t, seen[number], "AADSTS%s stands twice", number)
			assert.Regexp(t, `^\d{5,7}$`, number)
			seen[number] = true
			count++
			found, as, known := FindCode("AADSTS" + number + ": " + c.Says)
			assert.True(t, known)
			assert.Equal(t, number, as)
			assert.Equal(t, c.Means, found.Means)
		}
		assert.NotEmpty(t, c.Cause, c.Numbers)
		assert.NotEmpty(t, c.Says, c.Numbers)
		assert.True(t, strings.HasSuffix(c.Means, "."), c.Means)
		assert.NotEmpty(t, c.Advice(Secret), c.Numbers)
		assert.NotEmpty(t, c.Advice(AzureCLI), c.Numbers)
		for _, kind := range []Kind{AzureDeveloper, PowerShell, Person} {
			assert.NotRegexp(t, `\baz (login|cloud|itself)`, c.Advice(kind), "nobody uses az")
			assert.NotEmpty(t, c.Advice(kind), c.Numbers)
		}
		for _, text := range []string{c.Means, c.Do, c.Person} {
			assert.Equal(t, text, token.Redact(text))
		}
	}
	assert.GreaterOrEqual(t, count, 100)
}

func TestFindCode(t *testing.T) {
	for _, row := range []struct {
		name, text, number string
		known              bool
	}{
		{"a code", "AADSTS7000215: Invalid client secret provided.", "7000215", true},
		{"a finer kind of one", "AADSTS7002138: No matching federated identity record found", "7002138", true},
		{"a vague one before one that says more",
			"AADSTS70002: Error validating credentials. AADSTS50012: Invalid client secret", "50012", true},
		{"a vague one alone", "AADSTS70002: Error validating credentials.", "70002", true},
		{"a finer kind of a vague one says nothing", "AADSTS700001: something", "700001", false},
		{"one that nobody knows", "AADSTS99999: It rains.", "99999", false},
		{"none", "it rains", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, number, known := FindCode(row.text)
			assert.Equal(t, row.number, number)
			assert.Equal(t, row.known, known)
		})
	}
}

func TestKindOf(t *testing.T) {
	for _, row := range []struct {
		text string
		want Kind
	}{
		{"ClientSecretCredential authentication failed. AADSTS7000215", Secret},
		{"WorkloadIdentityCredential authentication failed.", Federated},
		{"AzurePipelinesCredential: x", Assertion},
		{"ClientAssertionCredential authentication failed.", Assertion},
		{"AzureCLICredential: ERROR: AADSTS70043", AzureCLI},
		{"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: AADSTS7000215: " +
			"Invalid\n\tAzureCLICredential: x", Secret},
		{"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: " +
			"missing\n\tAzurePowerShellCredential: x", PowerShell},
		{"it rains", OtherCredential},
	} {
		assert.Equal(t, row.want, KindOf(row.text), row.text)
	}
}

func TestAdviseIsByTheKindOfCredential(t *testing.T) {
	blocked := "AADSTS53003: Access has been blocked by Conditional Access policies."
	assert.Contains(t, Advise(errors.New("ClientSecretCredential: "+blocked)), "Service principal sign-ins")
	assert.NotContains(t, Advise(errors.New("ClientSecretCredential: "+blocked)), "log in again")
	assert.Contains(t, Advise(errors.New("AzureCLICredential: "+blocked)), "log in again")
	assert.Contains(t, Advise(errors.New("AADSTS99999: It rains.")), "error?code=99999")
	assert.Contains(t, Advise(errors.New("no answer within the token timeout of 30s: x")), "firewall")
	assert.Empty(t, Advise(errors.New("stopped waiting for it: context canceled")))
}
