# Contains only the operator's static binary, which `make image` builds outside of Docker.
# It needs no CA certificates: it talks to the Docker socket and to API servers with a configured CA.
FROM scratch
COPY localcluster-operator /localcluster-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/localcluster-operator"]
CMD ["run"]
