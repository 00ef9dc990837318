package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// A containerApp is what is used here of
// https://learn.microsoft.com/azure/container-apps/azure-resource-manager-api-spec.
type containerApp struct {
	Location string `json:"location"`
	Identity struct {
		Type                   string              `json:"type"`
		UserAssignedIdentities map[string]struct{} `json:"userAssignedIdentities"`
	} `json:"identity"`
	Properties struct {
		EnvironmentID string `json:"environmentId"`
		Configuration struct {
			Ingress struct {
				External   bool `json:"external"`
				TargetPort int  `json:"targetPort"`
			} `json:"ingress"`
		} `json:"configuration"`
		Template struct {
			TerminationGracePeriodSeconds int               `json:"terminationGracePeriodSeconds"`
			Containers                    []containerOfApps `json:"containers"`
			Scale                         struct {
				MinReplicas int `json:"minReplicas"`
				MaxReplicas int `json:"maxReplicas"`
			} `json:"scale"`
		} `json:"template"`
	} `json:"properties"`
}

type containerOfApps struct {
	Name      string            `json:"name"`
	Image     string            `json:"image"`
	Args      []string          `json:"args"`
	Env       []variableOfAzure `json:"env"`
	Resources struct {
		CPU    float64 `json:"cpu"`
		Memory string  `json:"memory"`
	} `json:"resources"`
	Probes []struct {
		Type    string `json:"type"`
		HTTPGet struct {
			Path string `json:"path"`
			Port int    `json:"port"`
		} `json:"httpGet"`
		PeriodSeconds    int `json:"periodSeconds"`
		FailureThreshold int `json:"failureThreshold"`
	} `json:"probes"`
}

type variableOfAzure struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Whether Azure takes it is not shown: its shape, the program's flags, and how the service finds the proxy are.
func TestContainerApp(t *testing.T) {
	text, err := os.ReadFile("azure/container-app.yaml")
	require.NoError(t, err)
	var app containerApp
	require.NoError(t, yaml.UnmarshalStrict(text, &app))
	require.Len(t, app.Properties.Template.Containers, 2)
	service, proxy := app.Properties.Template.Containers[0], app.Properties.Template.Containers[1]
	assert.Equal(t, "orders.postgres.database.azure.com", serves(t, proxy.Args, proxy.Env))
	assert.Contains(t, service.Env[0].Value, "@127.0.0.1:5432/")
	assert.Greater(t, app.Properties.Template.TerminationGracePeriodSeconds, 40)
	for _, probe := range proxy.Probes {
		want := map[string]string{"Startup": "/readyz", "Liveness": "/livez", "Readiness": "/livez"}[probe.Type]
		assert.Equal(t, want, probe.HTTPGet.Path, probe.Type)
		assert.Equal(t, 9090, probe.HTTPGet.Port)
	}
}

// serves is the host that the program would serve at 127.0.0.1:5432, by what a container is told.
func serves(t *testing.T, args []string, env []variableOfAzure) string {
	cmd := exec.Command(program(t), append(args, "--check-config")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, v := range env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "managed-identity")
	assert.Contains(t, string(out), "listening on 127.0.0.1:5432\n")
	return regexp.MustCompile(`[\w.]+\.azure\.com`).FindString(string(out))
}

// A siteContainer is what is used here of
// https://learn.microsoft.com/rest/api/appservice/web-apps/create-or-update-site-container.
type siteContainer struct {
	Name       string `json:"name"`
	Properties struct {
		Image        string            `json:"image"`
		IsMain       bool              `json:"isMain"`
		TargetPort   string            `json:"targetPort"`
		Inherit      bool              `json:"inheritAppSettingsAndConnectionStrings"`
		Environments []variableOfAzure `json:"environmentVariables"`
	} `json:"properties"`
}

// The script is run with an az that writes down what it is told.
func TestAppServicesSidecar(t *testing.T) {
	text, err := os.ReadFile("azure/app-service.json")
	require.NoError(t, err)
	var all []siteContainer
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&all))
	require.Len(t, all, 2)

	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	require.NoError(t, os.WriteFile(filepath.Join(bin, "az"),
		[]byte("#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >>\"$LOG\"\n"), 0o700))
	cmd := exec.Command("azure/app-service.sh")
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "LOG=" + log, "APP=orders-api", "RESOURCE_GROUP=group",
		"SERVER=orders", "ROLE=orders-api", "DATABASE=orders"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	calls, err := os.ReadFile(log)
	require.NoError(t, err)
	settings := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(calls), -1) {
		settings[found[1]] = found[2]
	}
	for i, c := range all {
		for j, v := range c.Properties.Environments {
			require.NotEmpty(t, settings[v.Value], "%s: a variable's value is the name of a setting", v.Name)
			all[i].Properties.Environments[j].Value = settings[v.Value]
		}
	}
	assert.Equal(t, "orders.postgres.database.azure.com", serves(t, []string{"proxy"}, all[1].Properties.Environments))
	assert.Equal(t, "postgres://orders-api@127.0.0.1:5432/orders?sslmode=disable", all[0].Properties.Environments[0].Value)
	assert.Contains(t, string(calls), "azure/app-service.json\n")
}
