# The operator's static binary, which `make image` builds outside Docker.
# It needs no CA certificates: it connects to the Docker socket, and to API servers with a configured CA.
FROM scratch
COPY localcluster-operator /localcluster-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/localcluster-operator"]
CMD ["run"]
