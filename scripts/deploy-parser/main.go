// Reads what deploy/ holds with the very parsers of those who run it, and prints it as JSON:
//
//	deploy-parser compose FILE [PROFILE...]   as `docker compose config` does
//	deploy-parser nomad FILE [-var=K=V...]    as `nomad job run -output` does
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/hashicorp/nomad/jobspec2"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: deploy-parser compose|nomad FILE [MORE...]"))
	}
	var told any
	var err error
	switch path, more := os.Args[2], os.Args[3:]; os.Args[1] {
	case "compose":
		told, err = compose(path, more)
	case "nomad":
		told, err = nomad(path, more)
	default:
		err = fmt.Errorf("%s is neither compose nor nomad", os.Args[1])
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(told)
	}
	if err != nil {
		fail(err)
	}
}

func compose(path string, profiles []string) (any, error) {
	options, err := cli.NewProjectOptions([]string{path},
		cli.WithOsEnv, cli.WithDefaultProfiles(profiles...), cli.WithDotEnv)
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

func nomad(path string, variables []string) (any, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for at, each := range variables {
		variables[at] = each[len("-var="):]
	}
	return jobspec2.ParseWithConfig(&jobspec2.ParseConfig{
		Path: path, Body: body, ArgVars: variables, Strict: true,
	})
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
