package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// onlyOnAzure are the rows that the stand-ins cannot answer. All others hold on them.
var onlyOnAzure = []string{
	"PgBouncer takes a service principal's token", "PgBouncer takes a user's token", "a pool serves after a failover",
	"many refusals one after the other",
}

func TestSuiteRunsWholeOnTheStandIns(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program, and a pool outlives three tokens")
	}
	program := filepath.Join(t.TempDir(), "aadpool")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../../cmd/aadpool"
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))

	var out bytes.Buffer
	r, err := runOn(t.Context(), options{command: program}, newStandIns, &out)
	require.NoError(t, err)
	t.Log(out.String())
	require.Len(t, r.Outcomes, len(promises)+len(faults))
	var missing []string
	for _, o := range r.Outcomes {
		assert.Empty(t, o.Failed, o.Row)
		if o.NotHere != "" {
			missing = append(missing, o.Row)
		}
	}
	assert.Equal(t, onlyOnAzure, missing)
	assert.NotContains(t, out.String(), "eyJ", "no token is printed")
}

func TestDifferencesAreThoseOfRowsThatRanInBothPlaces(t *testing.T) {
	standIns := results{Outcomes: []outcome{
		{Row: "same", Seen: "logs in"}, {Row: "here", NotHere: "only on Azure"},
		{Row: "words", Refused: &refused{Code: "28000", Message: "no"}},
	}}
	azure := results{Outcomes: []outcome{
		{Row: "same", Seen: "logs in"}, {Row: "here", Seen: "logs in"},
		{Row: "words", Refused: &refused{Code: "28P01", Message: "never"}},
	}}
	assert.Equal(t, "\nAzure differs from the stand-ins:\n  words\n    Azure:     28P01 never\n    stand-ins: 28000 no\n",
		differences(standIns, azure))
	assert.Contains(t, differences(standIns, standIns), "does not differ")
}

func TestNothingIsMadeUnlessThePersonSaysYes(t *testing.T) {
	for answer, agreed := range map[string]bool{"yes\n": true, "yes": true, "y\n": false, "no\n": false, "": false} {
		t.Run(answer, func(t *testing.T) {
			var out bytes.Buffer
			err := agree(options{location: "westeurope", night: 8 * time.Hour}, "3.29 USD", strings.NewReader(answer), &out)
			assert.Equal(t, agreed, err == nil, "%v", err)
			assert.Contains(t, out.String(), "9h0m0s")
			assert.Contains(t, out.String(), "3.29 USD")
		})
	}
}

// fakeAz is a program in the place of az that writes down how it is called, and fails at what fails matches.
func fakeAz(t *testing.T, fails string) (calls func() string) {
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	script := `#!/bin/sh
echo "az $*" >>"$AZ_LOG"
case "$*" in $AZ_HANGS) exec sleep 600;; esac
case "$*" in $AZ_FAILS) echo 'it cannot be done' >&2; exit 1;; esac
[ -z "${AZURE_CONFIG_DIR-}" ] || echo "in $AZURE_CONFIG_DIR" >>"$AZ_LOG"
case "$*" in
*get-access-token*) echo '{"accessToken": "eyJ", "expires_on": 1800000000}';;
*signed-in-user*) echo '{"id": "11111111", "userPrincipalName": "dev@contoso.example"}';;
*"flexible-server show"*) echo '{"fullyQualifiedDomainName": "x.postgres.database.azure.com", "version": "16", "minorVersion": "9"}';;
*create-for-rbac*) echo '{"appId": "app", "password": "s3cret", "tenant": "22222222-2222-2222-2222-222222222222"}';;
*"app list"*) echo '[{"appId": "app"}]';;
*"identity list"*) echo '[{"name": "id-other", "clientId": "c0"}, {"name": "id-orders", "clientId": "C1", "principalId": "44444444"}]';;
*"sp show"*) echo '{"id": "33333333"}';;
esac
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "az"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("AZ_LOG", log)
	t.Setenv("AZ_FAILS", fails)
	t.Setenv("AZ_HANGS", "nothing")
	t.Setenv("MY_ADDRESS", "192.0.2.7")
	return func() string {
		text, err := os.ReadFile(log)
		if !os.IsNotExist(err) {
			require.NoError(t, err)
		}
		return string(text)
	}
}

// A person who presses Ctrl-C while Azure makes the server waits for az no longer, and pays for nothing.
func TestCtrlCDeletesWhatWasMade(t *testing.T) {
	calls := fakeAz(t, "nothing")
	t.Setenv("AZ_HANGS", "deployment*")
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), childEnv+"=1")
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	require.NoError(t, child.Start())
	deploying := func() bool { return strings.Contains(calls(), "az deployment") }
	require.Eventually(t, deploying, time.Minute, 20*time.Millisecond)
	require.NotContains(t, calls(), "delete")
	require.NoError(t, child.Process.Signal(os.Interrupt))
	assert.Error(t, child.Wait())
	assert.Contains(t, calls(), "az group delete --name aadpool-proof-", said.String())
	assert.Contains(t, said.String(), "azure: making the server")
}

// childEnv makes the test binary the program, past the stand-ins and the question.
const childEnv = "AADPOOL_AZURE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	os.Exit(untilSignal(func(ctx context.Context) error {
		_, err := runOn(ctx, options{location: "westeurope"}, newAzure, os.Stdout)
		return err
	}))
}

// Whatever fails on the way, and if the person presses Ctrl-C: what was made is deleted.
func TestAllThatWasMadeIsDeleted(t *testing.T) {
	for _, row := range []struct {
		name, fails string
		deleted     []string
		kept        []string
	}{
		{"nobody is logged in", "*signed-in-user*", nil, []string{"delete"}},
		{"the server cannot be made", "deployment*", []string{"group delete --name aadpool-proof-"},
			[]string{"ad app delete", "ad group delete"}},
		{"an app may have been made", "*create-for-rbac*",
			[]string{"group delete --name aadpool-proof-", "ad app delete --id app"}, []string{"ad group delete"}},
		{"the group's member cannot be added", "*member add*",
			[]string{"group delete --name aadpool-proof-", "ad app delete --id app", "ad group delete"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			calls := fakeAz(t, row.fails)
			var out bytes.Buffer
			_, err := runOn(t.Context(), options{location: "westeurope"}, newAzure, &out)
			require.ErrorContains(t, err, "it cannot be done")
			for _, call := range row.deleted {
				assert.Contains(t, calls(), call)
			}
			for _, call := range row.kept {
				assert.NotContains(t, calls(), call)
			}
			assert.NotContains(t, out.String()+err.Error(), "s3cret")
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		calls := fakeAz(t, "nothing")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := &azure{name: "aadpool-proof-x", resources: true, group: true, appNames: []string{"x"}}
		interrupted := func(ctx context.Context, _ options, _ io.Writer) (place, error) { return p, ctx.Err() }
		_, err := runOn(ctx, options{}, interrupted, nil)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 3, strings.Count(calls(), " delete "))
	})
	t.Run("what cannot be deleted is named", func(t *testing.T) {
		fakeAz(t, "group delete*")
		p := &azure{name: "aadpool-proof-x", resources: true}
		assert.ErrorContains(t, p.delete(t.Context()), "the resource group aadpool-proof-x is left, delete it by hand")
	})
}

// What is written can be published, and internal/refusal's test reads it.
func TestProofHasTheServersWordsAndNobodysName(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("docs", 0o755))
	begun := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	ran := results{About: "flexible server 16.9, westeurope", Begun: begun, Outcomes: []outcome{
		{Row: "an administrator logs in", Failed: "aadpool: logging in to x.example as dev@contoso.example"},
		{Row: "a word in place of a token", Failed: "as dev@contoso.example",
			Refused: &refused{Code: "28000", Message: "new | words", Reason: "token-format", Size: 13}},
	}}
	require.NoError(t, writeProof(options{location: "westeurope"}, results{}, ran))
	text, err := os.ReadFile("docs/azure-proof.md")
	require.NoError(t, err)
	assert.Contains(t, string(text), "on 2026-12-01. flexible server 16.9, westeurope.")
	assert.Contains(t, string(text),
		`| a word in place of a token | FAILED: 28000 new \| words is not taken for "token-format" |`)
	words, err := os.ReadFile("internal/refusal/testdata/azure/2026-12-01-westeurope.json")
	require.NoError(t, err)
	var read struct {
		Outcomes []struct{ Refused *refused }
	}
	require.NoError(t, json.Unmarshal(words, &read))
	assert.Equal(t, ran.Outcomes[1].Refused, read.Outcomes[1].Refused)
	assert.NotContains(t, string(text)+string(words), "dev@contoso.example")
	assert.Equal(t, "as dev@contoso.example", ran.Outcomes[1].Failed, "the run's own results stay")
}

func TestGuestIsWhoeverHasLoggedInInTheDirectory(t *testing.T) {
	calls := fakeAz(t, "nothing")
	_, err := (&azure{}).principal(t.Context(), guest)
	require.ErrorAs(t, err, new(notHere))
	p, err := (&azure{options: options{guest: "/home/grace/.azure"}}).principal(t.Context(), guest)
	require.NoError(t, err)
	assert.Equal(t, "dev@contoso.example", p.name)
	token, err := p.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
	require.NoError(t, err)
	assert.Equal(t, "eyJ", token.Token)
	assert.Equal(t, time.Unix(1800000000, 0), token.ExpiresOn)
	assert.Contains(t, calls(), "az account get-access-token --scope "+scope)
	assert.Equal(t, 2, strings.Count(calls(), "in /home/grace/.azure\n"))
}

func TestManagedIdentityIsThatOfTheMachine(t *testing.T) {
	fakeAz(t, "nothing")
	_, err := (&azure{}).principal(t.Context(), machine)
	require.ErrorAs(t, err, new(notHere))
	p, err := (&azure{options: options{identity: "c1"}}).principal(t.Context(), machine)
	require.NoError(t, err)
	assert.Equal(t, "id-orders", p.name)
	assert.Equal(t, "44444444", p.objectID)
	_, err = (&azure{options: options{identity: "c2"}}).principal(t.Context(), machine)
	require.ErrorContains(t, err, "no identity with the client id c2")
}

func TestPrivateEndpointIsMadeInTheGroupThatIsDeleted(t *testing.T) {
	calls := fakeAz(t, "nothing")
	a := &azure{options: options{location: "westeurope"}, name: "proof", host: "proof.postgres.database.azure.com"}
	private, own, err := a.privateName(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "proof.privatelink.postgres.database.azure.com", private)
	assert.Equal(t, a.host, own)
	assert.Regexp(t, `az network private-endpoint create --resource-group proof .*--group-id postgresqlServer`, calls())
}
