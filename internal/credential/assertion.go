package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// The variables of a job of GitHub Actions: https://docs.github.com/actions/reference/security/oidc
const (
	gitHubURLEnv   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	gitHubTokenEnv = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

// maxAssertion is far more than any assertion: the largest are a few kilobytes.
const maxAssertion = 64 << 10

// newGitHubActions exchanges a job's own token, which is asked for anew each time: it is valid for five minutes only.
func (s Settings) newGitHubActions() (azcore.TokenCredential, error) {
	err := missing(GitHubActions, "GitHub sets them for a job, or a workflow, that has permissions: id-token: write",
		setting{gitHubURLEnv, ""}, setting{gitHubTokenEnv, ""})
	if err != nil {
		return nil, err
	}
	if err := s.missingIDs(GitHubActions, "repository"); err != nil {
		return nil, err
	}
	pipeline := runtime.NewPipeline("aadpool", "", runtime.PipelineOptions{}, &s.ClientOptions)
	return s.newAssertion(func(ctx context.Context) (string, error) { return askGitHub(ctx, pipeline, s.audience()) })
}

// newOIDCFile exchanges what a platform writes into a file, which is read anew each time: GitLab, Terraform Cloud,
// SPIFFE and others replace it before it expires.
func (s Settings) newOIDCFile() (azcore.TokenCredential, error) {
	err := missing(OIDCFile, "it is the file into which the platform writes its token", setting{tokenFileEnv, s.TokenFile})
	if err != nil {
		return nil, err
	}
	if err := s.missingIDs(OIDCFile, "platform's token"); err != nil {
		return nil, err
	}
	file := or(s.TokenFile, tokenFileEnv)
	return s.newAssertion(func(context.Context) (string, error) { return readAssertion(file) })
}

func (s Settings) missingIDs(name, trusted string) error {
	return missing(name, "they are the client id and the tenant of the app registration, or of the managed identity, "+
		"that trusts the "+trusted+" by a federated credential",
		setting{clientEnv, s.ClientID}, setting{tenantEnv, s.TenantID})
}

func (s Settings) newAssertion(assertion func(context.Context) (string, error)) (azcore.TokenCredential, error) {
	return azidentity.NewClientAssertionCredential(or(s.TenantID, tenantEnv), or(s.ClientID, clientEnv), assertion,
		&azidentity.ClientAssertionCredentialOptions{
			ClientOptions: s.ClientOptions, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
}

// audiences are those that a cloud wants an assertion to be for, by the end of its authority's host:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
var audiences = map[string]string{
	".us": "api://AzureADTokenExchangeUSGov",
	".cn": "api://AzureADTokenExchangeChina",
}

// audience is the one of the authority's cloud.
func (s Settings) audience() string {
	host := s.ClientOptions.Cloud.ActiveDirectoryAuthorityHost
	if host == "" {
		host = os.Getenv("AZURE_AUTHORITY_HOST")
	}
	if u, err := url.Parse(host); err == nil {
		for end, audience := range audiences {
			if strings.HasSuffix(u.Hostname(), end) {
				return audience
			}
		}
	}
	return "api://AzureADTokenExchange"
}

// askGitHub asks for the job's token. An error repeats nothing of the answer but its status.
func askGitHub(ctx context.Context, pipeline runtime.Pipeline, audience string) (string, error) {
	const asking = "asking GitHub Actions for the job's token: "
	request, err := runtime.NewRequest(ctx, http.MethodGet, os.Getenv(gitHubURLEnv))
	if err != nil {
		return "", errors.New(asking + gitHubURLEnv + " is no URL")
	}
	query := request.Raw().URL.Query()
	query.Set("audience", audience)
	request.Raw().URL.RawQuery = query.Encode()
	request.Raw().Header.Set("Authorization", "Bearer "+os.Getenv(gitHubTokenEnv))
	response, err := pipeline.Do(request)
	if err != nil {
		return "", fmt.Errorf(asking+"%w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf(asking+"it answered %s: does the job have permissions: id-token: write, and has it not "+
			"ended?", response.Status)
	}
	var answer struct {
		Value string `json:"value"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxAssertion)).Decode(&answer)
	if err != nil || answer.Value == "" {
		return "", errors.New(asking + "there is no token in its answer")
	}
	return answer.Value, nil
}

func readAssertion(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("reading the platform's token: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxAssertion))
	if err != nil {
		return "", fmt.Errorf("reading the platform's token: %w", err)
	}
	if token := strings.TrimSpace(string(content)); token != "" {
		return token, nil
	}
	return "", fmt.Errorf("reading the platform's token: %s is empty", file)
}
