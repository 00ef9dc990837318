package deploy

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// compose reads a file as docker compose does: with what it extends, and by its schema.
func compose(t *testing.T, file string, environment ...string) *types.Project {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(environment), cli.WithName("test"),
		cli.WithProfiles([]string{"*"}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

func TestComposeFilesAreTaken(t *testing.T) {
	files, err := filepath.Glob("*/*compose.yaml")
	require.NoError(t, err)
	others, err := filepath.Glob("compose/*.yaml")
	require.NoError(t, err)
	require.Len(t, append(files, others...), 4)
	for _, file := range append(files, others...) {
		t.Run(file, func(t *testing.T) {
			project := compose(t, file)
			for name, service := range project.Services {
				if len(service.Command) > 0 && service.Command[0] == "proxy" {
					assertFlagsExist(t, service.Command)
					assert.True(t, service.ReadOnly, name)
					assertFlagsExist(t, service.HealthCheck.Test[2:])
				}
				for _, volume := range service.Volumes {
					if volume.Type == types.VolumeTypeBind && filepath.Base(volume.Source) != "userlist.txt" {
						assert.FileExists(t, volume.Source, name)
					}
				}
				if service.Build != nil {
					assert.FileExists(t, dockerfile(service), name)
				}
				for needed := range service.DependsOn {
					assert.NotNil(t, project.Services[needed].HealthCheck, "%s waits for %s to be healthy", name, needed)
				}
				if other, ok := strings.CutPrefix(service.NetworkMode, "service:"); ok {
					assert.Contains(t, project.Services, other)
				}
			}
		})
	}
}

func dockerfile(service types.ServiceConfig) string {
	if filepath.IsAbs(service.Build.Dockerfile) {
		return service.Build.Dockerfile
	}
	return filepath.Join(service.Build.Context, service.Build.Dockerfile)
}
