# The operator and nothing else: the binary is static, made by `make image` outside of Docker.
# It needs no CA certificates: it talks to the Docker socket and to API servers whose CA it is given.
FROM scratch
COPY localcluster-operator /localcluster-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/localcluster-operator"]
CMD ["run"]
