module standin/token

go 1.19
